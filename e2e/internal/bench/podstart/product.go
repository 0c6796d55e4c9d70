// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// product is what neighpin's engine does for a pod from the path to the acknowledged pin, by the same packages. The record,
// the annotation and the wait for CNI are not in it.
type product struct {
	host *netns.Host
	// stages are what the parts of each round took, in microseconds.
	stages [len(stageNames)][]float64
}

var stageNames = [...]string{"open a socket in the namespace", "resolve", "pin", "close"}

func newProduct() (*product, error) {
	host, err := netns.NewHost()
	if err != nil {
		return nil, err
	}
	return &product{host: host}, nil
}

func (p *product) Close() error { return p.host.Close() }

func (p *product) pin(ctx context.Context, path string) error {
	var at [len(stageNames) + 1]time.Time
	at[0] = time.Now()
	table, err := neighbor.OpenAt(p.host, path)
	if err != nil {
		return err
	}
	at[1] = time.Now()
	found, err := table.Resolve(ctx, neighbor.Query{})
	at[2] = time.Now()
	if err == nil && len(found.Neighbors) == 0 {
		err = fmt.Errorf("resolve %s: no gateway; skipped: %v", path, found.Skipped)
	}
	if err == nil {
		err = table.Pin(ctx, found.Neighbors)
	}
	at[3] = time.Now()
	err = errors.Join(err, table.Close())
	at[4] = time.Now()
	for i := range p.stages {
		p.stages[i] = append(p.stages[i], float64(at[i+1].Sub(at[i]).Nanoseconds())/1e3)
	}
	return err
}

// whereItGoes says the stages' medians.
func (p *product) whereItGoes() string {
	var parts []string
	for i, name := range stageNames {
		parts = append(parts, fmt.Sprintf("%s %.0f", name, bench.Median(p.stages[i])))
	}
	return "where neighpin's time goes, medians in µs: " + strings.Join(parts, ", ")
}
