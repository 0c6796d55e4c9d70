// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"errors"
	"fmt"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
)

// product is what neighpin's engine does for a pod from the path to the acknowledged pin, by the same packages. The record,
// the annotation and the wait for CNI are not in it.
type product struct{ host *netns.Host }

func newProduct() (*product, error) {
	host, err := netns.NewHost()
	if err != nil {
		return nil, err
	}
	return &product{host}, nil
}

func (p *product) pin(ctx context.Context, path string) (err error) {
	ns, err := p.host.Open(path)
	if err != nil {
		return err
	}
	table, err := neighbor.Open(ns)
	ns.Close()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	found, err := table.Resolve(ctx, neighbor.Query{})
	if err != nil {
		return err
	}
	if len(found.Neighbors) == 0 {
		return fmt.Errorf("resolve %s: no gateway; skipped: %v", path, found.Skipped)
	}
	return table.Pin(ctx, found.Neighbors)
}
