// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// EventKind says what happened.
type EventKind int

// What happens in a namespace, in the kernel's order of cause and effect:
// removing the last IPv4 address of a link gives AddrRemoved and then
// NeighborRemoved for each of its IPv4 entries (net/ipv4/fib_frontend.c,
// fib_inetaddr_event), whereas a flush gives NeighborRemoved beside LinkChanged.
//
// A permanent entry that somebody demotes by asking for it (NTF_USE with
// NLM_F_REPLACE) is reported only when the question has been answered, or has
// failed after some three seconds: going to INCOMPLETE is not announced
// (net/core/neighbour.c, __neigh_event_send).
const (
	LinkChanged     EventKind = iota + 1 // a link is new, or its flags, address, name or master are
	LinkRemoved                          // a link is gone, maybe to another namespace
	AddrAdded                            // an IP address is new or renewed
	AddrRemoved                          // an IP address is gone
	RouteChanged                         // a route is new or gone; IPv4 routes that go with their link are not reported
	NeighborChanged                      // an entry is new or has another state or address
	NeighborRemoved                      // an entry is gone
	Overrun                              // events were lost; everything has to be read again
	NamespaceGone                        // a namespace has lost its number, which may be another's at once; of a HostWatcher only
)

// String returns the name of the constant.
func (k EventKind) String() string {
	names := [...]string{"", "LinkChanged", "LinkRemoved", "AddrAdded", "AddrRemoved",
		"RouteChanged", "NeighborChanged", "NeighborRemoved", "Overrun", "NamespaceGone"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Event is something that happened in a namespace.
type Event struct {
	Kind   EventKind
	Index  int    // number of the link; 0 for a route that has several, or none
	Dev    string // name of the link as last heard, or empty; any bytes but '/', ':' and white space
	Family string // of the address, route or entry

	Dst    netip.Addr   // the entry's or the link's IP address
	LLAddr HardwareAddr // the entry's, or of LinkChanged the link's own
	State  []string     // the entry's, as in Neighbor

	Up     bool // of LinkChanged: administratively up
	Global bool // of AddrAdded and AddrRemoved: the address is of global scope
	Ours   bool // of an entry: it carries our Protocol
}

// Permanent tells whether the event is about a permanent entry.
func (e Event) Permanent() bool { return len(e.State) == 1 && e.State[0] == rtnetlink.StatePermanent }

// parseEvent reads one notification. ok is false when it is of no interest.
func parseEvent(n rtnetlink.Notice) (ev Event, ok bool, err error) {
	if len(n.Body) > 0 {
		switch n.Body[0] { // every one of these messages begins with its family
		case unix.AF_INET:
			ev.Family = FamilyInet
		case unix.AF_INET6:
			ev.Family = FamilyInet6
		case unix.AF_UNSPEC:
		default:
			return Event{}, false, nil // bridges and others report by these groups too
		}
	}
	switch n.Kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, err := rtnetlink.ParseLink(n.Body)
		ev.Kind = pick(n.Kind == unix.RTM_NEWLINK, LinkChanged, LinkRemoved)
		ev.Index, ev.Dev, ev.LLAddr, ev.Up = l.Index, l.Name, HardwareAddr(l.LLAddr), l.Up()
		return ev, err == nil, err
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, err := rtnetlink.ParseAddr(n.Body)
		ev.Kind = pick(n.Kind == unix.RTM_NEWADDR, AddrAdded, AddrRemoved)
		ev.Index, ev.Dst, ev.Global = a.Index, a.IP, a.Global()
		return ev, err == nil, err
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, err := rtnetlink.ParseRoute(n.Body)
		ev.Kind = RouteChanged
		if len(r.Hops) == 1 {
			ev.Index = r.Hops[0].Index
		}
		return ev, err == nil, err
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		e, err := rtnetlink.ParseEntry(n.Body)
		ev.Kind = pick(n.Kind == unix.RTM_NEWNEIGH, NeighborChanged, NeighborRemoved)
		ev.Index, ev.Dst, ev.LLAddr, ev.State = e.Index, e.Dst, HardwareAddr(e.LLAddr), e.States()
		ev.Ours = e.Protocol == Protocol
		return ev, err == nil, err
	}
	return Event{}, false, nil
}

func pick(isNew bool, added, removed EventKind) EventKind {
	if isNew {
		return added
	}
	return removed
}
