// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// NSID returns the number by which this process's namespace knows ns, or
// HostNSID when they are the same. A namespace that has none is given one, which
// needs CAP_NET_ADMIN and shows in no other way than that a HostWatcher hears it
// from then on. The number is valid until ns ends.
func NSID(ctx context.Context, ns *netns.NS) (int32, error) {
	self, err := netns.Self()
	if err != nil {
		return 0, fmt.Errorf("number %s: %w", printable(ns.Path()), err)
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
		return 0, fmt.Errorf("number %s: %w", printable(ns.Path()), err)
	}
	return id, nil
}

// nsidIn asks for the number that self has for ns, and assigns one where there
// is none, unless they are the same.
func nsidIn(ctx context.Context, self, ns *netns.NS) (id int32, err error) {
	var c *conn
	if err := self.Do(func() (err error) {
		c, err = dial()
		return err
	}); err != nil {
		return 0, err
	}
	defer c.Close()
	if id, err = c.nsid(ctx, ns); err != nil || id != nsidNone || self.Cookie() == ns.Cookie() {
		return id, err
	}
	none := int32(nsidNone)
	r := nsidRequest(unix.RTM_NEWNSID).attr32(netlink.NETNSA_NSID, uint32(none)).attr32(netlink.NETNSA_FD, uint32(ns.FD()))
	if err := c.set(ctx, r); err != nil && !errors.Is(err, unix.EEXIST) { // somebody else was quicker
		return 0, fmt.Errorf("assign: %w", err)
	}
	return c.nsid(ctx, ns)
}

// nsid reads the number by which the socket's namespace knows ns, or nsidNone.
func (c *conn) nsid(ctx context.Context, ns *netns.NS) (int32, error) {
	return get(ctx, c, nsidRequest(unix.RTM_GETNSID).attr32(netlink.NETNSA_FD, uint32(ns.FD())), parseNSID)
}

// nsidRequest is one about numbers of namespaces, whose fixed part is struct
// rtgenmsg.
func nsidRequest(kind int) *request {
	return newRequest(kind, 0, unix.AF_UNSPEC, unix.SizeofRtGenmsg)
}
