// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// NSID returns the number by which this process's namespace knows ns, or
// HostNSID when they are the same. A namespace that has none is given one, which
// needs CAP_NET_ADMIN and shows in no other way than that a HostWatcher hears it
// from then on. The number is valid until ns ends.
func NSID(ctx context.Context, ns *netns.NS) (int32, error) {
	self, err := netns.Self()
	if err != nil {
		return 0, fmt.Errorf("number %s: %w", plain.Text(ns.Path()), err)
	}
	defer self.Close()
	return nsidFrom(ctx, self, ns)
}

// nsidFrom is NSID with the namespace that numbers.
func nsidFrom(ctx context.Context, self, ns *netns.NS) (int32, error) {
	if self.Cookie() == ns.Cookie() {
		return HostNSID, nil // it could be given a number for itself
	}
	id, err := nsidIn(ctx, self, ns)
	if err != nil {
		return 0, fmt.Errorf("number %s: %w", plain.Text(ns.Path()), err)
	}
	return id, nil
}

// nsidIn is the number that self has for ns, which is given one unless they are the
// same.
func nsidIn(ctx context.Context, self, ns *netns.NS) (id int32, err error) {
	var c *rtnetlink.Conn
	if err := self.Do(func() (err error) {
		c, err = rtnetlink.Dial()
		return err
	}); err != nil {
		return 0, err
	}
	defer c.Close()
	if self.Cookie() == ns.Cookie() {
		return c.NSID(ctx, ns.FD())
	}
	return c.AssignNSID(ctx, ns.FD())
}
