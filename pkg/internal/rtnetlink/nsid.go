// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NSIDNone stands for no namespace, or no number, of those that a namespace gives to
// others. It is the kernel's word (NETNSA_NSID_NOT_ASSIGNED).
const NSIDNone = -1

// ParseNSID reads the body of RTM_NEWNSID or RTM_DELNSID.
func ParseNSID(body []byte) (id int32, err error) {
	a, found := readAttrs(body, unix.SizeofRtGenmsg), false
	for a.next() {
		if a.kind == netlink.NETNSA_NSID {
			id, found = int32(a.u32()), true
		}
	}
	if a.err == nil && !found {
		a.err = ErrMalformed
	}
	if a.err != nil {
		return 0, a.err
	}
	return id, nil
}

// nsidRequest is one about the number of the namespace of a descriptor. The fixed
// part is struct rtgenmsg.
func nsidRequest(kind, ns int) *request {
	return newRequest(kind, 0, unix.AF_UNSPEC, unix.SizeofRtGenmsg).attr32(netlink.NETNSA_FD, uint32(ns))
}

// NSID reads the number by which the socket's namespace knows the one of a
// descriptor, or NSIDNone.
func (c *Conn) NSID(ctx context.Context, ns int) (int32, error) {
	return get(ctx, c, nsidRequest(unix.RTM_GETNSID, ns), ParseNSID)
}

// AssignNSID reads the number, and has the kernel choose one where there is none,
// which needs CAP_NET_ADMIN.
func (c *Conn) AssignNSID(ctx context.Context, ns int) (int32, error) {
	if id, err := c.NSID(ctx, ns); err != nil || id != NSIDNone {
		return id, err
	}
	none := int32(NSIDNone)
	r := nsidRequest(unix.RTM_NEWNSID, ns).attr32(netlink.NETNSA_NSID, uint32(none))
	if err := c.set(ctx, r); err != nil && !errors.Is(err, unix.EEXIST) { // somebody else was quicker
		return 0, fmt.Errorf("assign: %w", err)
	}
	return c.NSID(ctx, ns)
}

// NSIDs lists the numbers that the socket's namespace has for others.
func (c *Conn) NSIDs(ctx context.Context) (numbers []int32, err error) {
	request := newRequest(unix.RTM_GETNSID, 0, unix.AF_UNSPEC, unix.SizeofRtGenmsg)
	err = list(ctx, c, request, ParseNSID, func() { numbers = nil }, func(id int32) {
		if id >= 0 {
			numbers = append(numbers, id)
		}
	})
	return numbers, err
}
