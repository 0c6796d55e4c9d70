// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/sandbox"
)

// sandboxes are those that the daemon knows, or, where none answers, those of its
// records: these are what was written last, and nobody keeps them true.
func (a *app) sandboxes(ctx context.Context, stateDir string) ([]sandbox.Record, error) {
	status, err := askStatus(ctx, stateDir)
	if err == nil {
		return status.Sandboxes, nil
	}
	fmt.Fprintf(a.stderr, "neighpin: warning: %v; what follows is from its records\n", err)
	records, err := sandbox.RecordsIn(stateDir).List()
	if err != nil && len(records) > 0 {
		fmt.Fprintf(a.stderr, "neighpin: warning: %v\n", err)
		err = nil
	}
	return records, err
}

// problems are, in a word each, what keeps a sandbox from being as it should be.
func problems(rec sandbox.Record) []string {
	var list []string
	add := func(problem string) {
		if !slices.Contains(list, problem) {
			list = append(list, problem)
		}
	}
	if rec.Refused != "" {
		add("Refused")
	}
	if rec.Error != "" {
		add("Error")
	}
	if rec.Timing.Verdict == sandbox.Late {
		add("Late")
	}
	if len(rec.Stale) > 0 {
		add("Stale")
	}
	for _, s := range rec.Skipped {
		if s.Reason.NoTruth() {
			add(string(s.Reason))
		}
	}
	for _, d := range rec.Doubts {
		add(string(d.Reason))
	}
	return list
}

// word is the state of a sandbox as a column has it.
func word(rec sandbox.Record) string {
	if list := problems(rec); len(list) > 0 {
		return strings.Join(list, ",")
	}
	if rec.Phase == sandbox.Starting {
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

func margin(t sandbox.Timing) string {
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
func podName(rec sandbox.Record) string {
	if rec.Name == "" {
		return "by hand"
	}
	return quoteOdd(rec.Namespace + "/" + rec.Name)
}
