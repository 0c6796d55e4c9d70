// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"

	"github.com/neighpin/neighpin/pkg/netns"
)

// LeadsInto tells whether a link of this process's own namespace, by its number,
// is one end of a pair whose other end is in ns at the moment. Numbers of links
// are given again; that of ns is not, while the caller holds it open.
func LeadsInto(ctx context.Context, index int, ns *netns.NS) (bool, error) {
	self, err := netns.Self()
	if err != nil {
		return false, fmt.Errorf("read link %d: %w", index, err)
	}
	defer self.Close()
	nsid, err := nsidFrom(ctx, self, ns)
	if err != nil || nsid < 0 {
		return false, err // the own namespace is no sandbox's
	}
	l, err := ownLink(ctx, self, index)
	return l.leadsOut() && l.nsid == nsid, err
}

// LeadsOut tells whether a link of this process's own namespace, by its number, is
// one end of a pair whose other end is in another namespace at the moment.
func LeadsOut(ctx context.Context, index int) (bool, error) {
	self, err := netns.Self()
	if err != nil {
		return false, fmt.Errorf("read link %d: %w", index, err)
	}
	defer self.Close()
	l, err := ownLink(ctx, self, index)
	return l.leadsOut(), err
}

func (l link) leadsOut() bool {
	return (l.kind == kindVeth || l.kind == kindNetkit) && l.hasNSID && l.nsid >= 0
}

// ownLink reads a link of the own namespace; what is not there is no error.
func ownLink(ctx context.Context, self *netns.NS, index int) (l link, err error) {
	err = self.Do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.Close()
		l, err = c.link(ctx, index, nsidNone)
		return err
	})
	switch {
	case gone(err):
		return link{}, nil
	case err != nil:
		return link{}, fmt.Errorf("read link %d: %w", index, err)
	}
	return l, nil
}
