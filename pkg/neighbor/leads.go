// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
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
	return leadsOut(l) && l.NSID == nsid, err
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
	return leadsOut(l), err
}

func leadsOut(l rtnetlink.Link) bool {
	return l.Pair() && l.HasNSID && l.NSID >= 0
}

// ownLink reads a link of the own namespace; what is not there is no error.
func ownLink(ctx context.Context, self *netns.NS, index int) (l rtnetlink.Link, err error) {
	err = self.Do(func() error {
		c, err := rtnetlink.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		l, err = c.Link(ctx, index, rtnetlink.NSIDNone)
		return err
	})
	switch {
	case rtnetlink.Gone(err):
		return rtnetlink.Link{}, nil
	case err != nil:
		return rtnetlink.Link{}, fmt.Errorf("read link %d: %w", index, err)
	}
	return l, nil
}
