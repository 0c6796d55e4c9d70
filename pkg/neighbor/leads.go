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
	var c *conn
	if err := self.Do(func() (err error) {
		c, err = dial()
		return err
	}); err != nil {
		return false, fmt.Errorf("read link %d: %w", index, err)
	}
	defer c.Close()
	l, err := c.link(ctx, index, nsidNone)
	if gone(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read link %d: %w", index, err)
	}
	return (l.kind == kindVeth || l.kind == kindNetkit) && l.hasNSID && l.nsid == nsid, nil
}
