// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Counts are a daemon's metrics, by name and labels as they are written.
type Counts map[string]float64

// Metrics reads them.
func (d *Daemon) Metrics(ctx context.Context) (Counts, error) {
	text, err := d.Get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	all := make(Counts)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if all[line[:at]], err = strconv.ParseFloat(line[at+1:], 64); err != nil {
			return nil, fmt.Errorf("read metric %s: %w", line, err)
		}
	}
	return all, lines.Err()
}

// Sum is that of all series of a metric.
func (c Counts) Sum(name string) (sum float64) {
	for series, value := range c {
		if metric, _, _ := strings.Cut(series, "{"); metric == name {
			sum += value
		}
	}
	return sum
}

// Looks is how often the daemon has looked at a sandbox, whatever the cause.
func (c Counts) Looks() float64 { return c.Sum("neighpin_looks_total") }
