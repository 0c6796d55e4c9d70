// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

// sandboxes are those that the daemon knows, or, where none answers, those of its
// records: these are what was written last, and nobody keeps them true.
func (a *app) sandboxes(ctx context.Context, stateDir string) ([]record.Record, error) {
	told, err := status.Ask(ctx, stateDir)
	if err == nil {
		return told.Sandboxes, nil
	}
	a.warn("%v; what follows is from its records", err)
	records, err := record.In(stateDir).List()
	if err != nil && len(records) > 0 {
		a.warn("%v", err)
		err = nil
	}
	return records, err
}

// word is the state of a sandbox as a column has it.
func word(rec record.Record) string {
	if list := status.Problems(rec); len(list) > 0 {
		return strings.Join(list, ",")
	}
	if rec.Phase == record.Starting {
		return "Starting"
	}
	return "OK"
}

// age is a time as kubectl has it: one or two units.
func age(since, now time.Time) string {
	if since.IsZero() {
		return "-"
	}
	d := max(now.Sub(since), 0)
	day := 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

func margin(t record.Timing) string {
	if t.MarginMs == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", t.MarginMs)
}

// orNone is a value of a column that has none.
func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// podName is namespace/name for a terminal.
func podName(rec record.Record) string {
	if rec.Name == "" {
		return "by hand"
	}
	return quoteOdd(rec.Namespace + "/" + rec.Name)
}
