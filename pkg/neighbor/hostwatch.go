// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/netns"
)

// hostBuffer is room for about 20,000 messages about entries; the kernel takes it
// twice. One sandbox's worst moment fills watchBuffer, and several begin or end at
// once. It is a limit: nothing is taken before it is used.
const hostBuffer = 8 << 20

// hostGroups are multicast groups of include/uapi/linux/rtnetlink.h. Routes are
// left out: there may be a million on a host, and what a pin rests on is links
// and addresses.
func hostGroups() []uint {
	return []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_NSID}
}

// HostNSID stands for this process's own namespace, which has no number.
const HostNSID = rtnetlink.NSIDNone

// HostEvent is something that happened in this process's namespace, or in one
// that has a number there.
type HostEvent struct {
	// Event is as a Watcher of that namespace would tell it, with these
	// differences: Dev is empty unless the message itself names the link; what a
	// bridge tells of a port, also that it has left, is LinkChanged; routes are
	// not told.
	Event

	// NSID is the number of the namespace that it happened in, or HostNSID. Of
	// NamespaceGone it is the number that is not valid any more. Of Overrun it
	// is HostNSID, and anything may have happened anywhere.
	NSID int32
}

// HostWatcher hears this process's own namespace and all that have a number in
// it, by one socket there. Receive is for one goroutine; Close may be called from
// any.
//
// A namespace gets a number when a link of it has its other end here, at the
// latest when that is set up, or by NSID. What happened in it before is never
// reported, so that it has to be read after NSID has returned. The kernel gives a
// number that has become free again at once, and tells of the new owner and of the
// old one's end in either order (net/core/net_namespace.c, unhash_nsid): after
// NamespaceGone ask NSID who has the number.
type HostWatcher struct {
	socket *rtnetlink.Listener
	self   int32 // a number that the namespace was given for itself, or HostNSID
	heard  atomic.Uint64
}

// WatchHost begins to listen: everything that happens from its return on is
// reported. The error wraps fs.ErrPermission when CAP_NET_BROADCAST is missing.
func WatchHost() (*HostWatcher, error) {
	self, err := netns.Self()
	if err != nil {
		return nil, fmt.Errorf("watch all namespaces: %w", err)
	}
	defer self.Close()
	return watchHost(self)
}

// watchHost is WatchHost with the namespace to sit in.
func watchHost(self *netns.NS) (*HostWatcher, error) {
	w := &HostWatcher{self: HostNSID}
	err := self.Do(func() (err error) {
		w.socket, err = rtnetlink.ListenEverywhere(hostBuffer, hostGroups()...)
		return err
	})
	if err == nil {
		// Somebody may have given it one for itself, which its messages carry
		// then on kernels without "net: netlink: don't set nsid on local
		// notifications" (7.1).
		w.self, err = nsidIn(context.Background(), self, self)
	}
	if err != nil {
		if w.socket != nil {
			w.socket.Close()
		}
		return nil, fmt.Errorf("watch all namespaces: %w", err)
	}
	return w, nil
}

// Close ends the listening; a Receive that waits returns. Closing again does
// nothing.
func (w *HostWatcher) Close() error {
	w.socket.Close()
	return nil
}

// Heard is how many of the kernel's messages have been read. It may be called
// from any goroutine.
func (w *HostWatcher) Heard() uint64 { return w.heard.Load() }

// MaxEntries is how many addresses HearEntries tells apart.
const MaxEntries = rtnetlink.MaxEntries

// HearEntries has NeighborChanged and NeighborRemoved told of these IP addresses
// only, in whatever namespace, from its return on: what the kernel tells of others
// is dropped before it wakes anybody. Of what it tells of these nothing is missed
// by a change from one list to another. More than MaxEntries are not told apart:
// then, and before the first call, those of all addresses are told.
//
// It may be called from any goroutine, by one at a time. After an error nothing is
// sure of what is told.
func (w *HostWatcher) HearEntries(of []netip.Addr) error {
	if err := w.socket.HearEntries(of); err != nil {
		return fmt.Errorf("choose whose entries are heard: %w", err)
	}
	return nil
}

// Receive waits for something to happen and returns it, in the kernel's order.
// Lost or unreadable messages give an event of kind Overrun: what is read from
// the kernel after it is not older than what was lost. After Close the error
// wraps os.ErrClosed.
func (w *HostWatcher) Receive() ([]HostEvent, error) {
	events, err := collect(w.socket, w.decode)
	if err != nil {
		return nil, fmt.Errorf("receive events of all namespaces: %w", err)
	}
	return events, nil
}

func (w *HostWatcher) decode(n rtnetlink.Notice) (HostEvent, bool) {
	nsid := n.NSID
	if nsid == w.self {
		nsid = HostNSID
	}
	lost := HostEvent{Event: Event{Kind: Overrun}, NSID: HostNSID}
	if n.Kind != 0 {
		w.heard.Add(1)
	}
	switch n.Kind {
	case 0:
		return lost, true
	case unix.RTM_NEWNSID:
		return HostEvent{}, false
	case unix.RTM_DELNSID:
		gone, err := rtnetlink.ParseNSID(n.Body)
		if err != nil {
			return lost, true
		}
		// Others have numbers of their own for each other, which say nothing here.
		return HostEvent{Event: Event{Kind: NamespaceGone}, NSID: gone}, nsid == HostNSID
	}
	ev, ok, err := parseEvent(n)
	if isPort(n) {
		ev, err = parsePort(n.Body)
		ok = err == nil
	}
	if err != nil {
		return lost, true
	}
	return HostEvent{Event: ev, NSID: nsid}, ok
}

// isPort tells whether a message is what a bridge says of a port or of itself.
func isPort(n rtnetlink.Notice) bool {
	return (n.Kind == unix.RTM_NEWLINK || n.Kind == unix.RTM_DELLINK) && len(n.Body) > 0 && n.Body[0] == unix.AF_BRIDGE
}

// parsePort reads a bridge's message about a link (net/bridge/br_netlink.c,
// br_fill_ifinfo). RTM_DELLINK means that it is no port any more.
func parsePort(body []byte) (ev Event, err error) {
	l, err := rtnetlink.ParseLink(body)
	return Event{Kind: LinkChanged, Index: l.Index, Dev: l.Name, LLAddr: HardwareAddr(l.LLAddr), Up: l.Up()}, err
}
