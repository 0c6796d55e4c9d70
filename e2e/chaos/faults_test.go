// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
)

// fault is one thing that goes wrong with a pod. When it returns the pod's link, addresses and routes are there as before, with other
// hardware addresses perhaps; what became of its entries is neighpin's business.
type fault struct {
	kind   string
	weight int
	// kernel says that it is for pods on the kernel's stack only: gVisor has taken what it is about.
	kernel bool
	do     func(p *pod, random *rand.Rand) error
}

// flooding is how many changes a flood has.
const flooding = 20000

var podFaults = []fault{
	{"pin deleted", 6, true, pinDeleted},
	{"pins flushed", 6, true, pinsFlushed},
	{"pin replaced", 3, true, pinReplaced},
	{"pin demoted", 6, true, pinDemoted},
	{"pod's link down and up", 4, true, podLinkDown},
	{"pod's MAC changed", 4, true, podMACChanged},
	{"pod's link in another namespace and back", 4, true, podLinkAway},
	{"host end's MAC changed", 10, false, hostMACChanged},
	{"host end down and up", 4, false, hostEndDown},
	{"flood in a pod", 1, false, func(p *pod, _ *rand.Rand) error { return flood(p.NetNS, "eth0", flooding) }},
}

// in does something to the pod's eth0 in the pod.
func (p *pod) in(fn func(h *netlink.Handle, eth0 netlink.Link) error) error {
	return inside(p.NetNS, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0: %w", err)
		}
		return fn(h, eth0)
	})
}

func pick[T any](random *rand.Rand, of []T) T { return of[random.IntN(len(of))] }

// anyMAC is a local address of one station.
func anyMAC(random *rand.Rand) net.HardwareAddr {
	n := random.Uint32()
	return net.HardwareAddr{0x02, 0xc4, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

func family(ip netip.Addr) int {
	if ip.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// gone is no error: neighpin may just be about to repair, or the gateway has no truth.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func pinDeleted(p *pod, random *rand.Rand) error { return p.deletePin(pick(random, gateways)) }

func pinsFlushed(p *pod, _ *rand.Rand) error {
	return errors.Join(p.deletePin(gateways[0]), p.deletePin(gateways[1]))
}

func (p *pod) deletePin(gateway netip.Addr) error {
	return p.in(func(h *netlink.Handle, eth0 netlink.Link) error {
		return gone(h.NeighDel(&netlink.Neigh{LinkIndex: eth0.Attrs().Index, Family: family(gateway), IP: gateway.AsSlice()}))
	})
}

func (p *pod) setEntry(gateway netip.Addr, state int, mac net.HardwareAddr) error {
	return p.in(func(h *netlink.Handle, eth0 netlink.Link) error {
		return h.NeighSet(&netlink.Neigh{LinkIndex: eth0.Attrs().Index, Family: family(gateway), State: state, IP: gateway.AsSlice(), HardwareAddr: mac})
	})
}

func pinReplaced(p *pod, random *rand.Rand) error {
	return p.replace(pick(random, gateways), anyMAC(random))
}

func (p *pod) replace(gateway netip.Addr, mac net.HardwareAddr) error {
	p.replaced[gateway]++
	p.foreign[gateway] = mac.String()
	return p.setEntry(gateway, netlink.NUD_PERMANENT, mac)
}

func pinDemoted(p *pod, random *rand.Rand) error {
	gateway := pick(random, gateways)
	if p.replaced[gateway] >= insistence {
		return nil // it is the test's, and stays
	}
	return p.setEntry(gateway, pick(random, []int{netlink.NUD_REACHABLE, netlink.NUD_STALE}), anyMAC(random))
}

func podLinkDown(p *pod, _ *rand.Rand) error {
	return p.in(func(h *netlink.Handle, eth0 netlink.Link) error {
		return errors.Join(h.LinkSetDown(eth0), p.network.restore(h))
	})
}

func podMACChanged(p *pod, random *rand.Rand) error {
	return p.in(func(h *netlink.Handle, eth0 netlink.Link) error { return h.LinkSetHardwareAddr(eth0, anyMAC(random)) })
}

// podLinkAway takes the link to where neighpin has no business.
func podLinkAway(p *pod, _ *rand.Rand) error {
	err := p.in(func(h *netlink.Handle, eth0 netlink.Link) error { return h.LinkSetNsFd(eth0, p.elsewhere.FD()) })
	if err != nil {
		return err
	}
	back, err := netns.GetFromPath(p.NetNS)
	if err != nil {
		return err
	}
	defer back.Close()
	err = inside(p.elsewhere.Ref(), func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return h.LinkSetNsFd(eth0, int(back))
	})
	if err != nil {
		return fmt.Errorf("take eth0 back: %w", err)
	}
	return p.in(func(h *netlink.Handle, _ netlink.Link) error { return p.network.restore(h) })
}

func (p *pod) atHostEnd(fn func(h *netlink.Handle, end netlink.Link) error) error {
	return inside(own(), func(h *netlink.Handle) error {
		end, err := h.LinkByName(p.HostLink)
		if err != nil {
			return fmt.Errorf("find the other end %s: %w", p.HostLink, err)
		}
		return fn(h, end)
	})
}

func hostMACChanged(p *pod, random *rand.Rand) error {
	return p.atHostEnd(func(h *netlink.Handle, end netlink.Link) error { return h.LinkSetHardwareAddr(end, anyMAC(random)) })
}

func hostEndDown(p *pod, _ *rand.Rand) error {
	return p.atHostEnd(func(h *netlink.Handle, end netlink.Link) error {
		return errors.Join(h.LinkSetDown(end), h.LinkSetUp(end))
	})
}

// segmentFault takes one of the gateways' addresses from the bridge, or gives it back.
func segmentFault(random *rand.Rand) error {
	gateway := pick(random, gateways)
	link, err := net.InterfaceByName(datapath.SegmentLink)
	if err != nil {
		return err
	}
	addresses, err := held(link.Index)
	if err != nil {
		return err
	}
	return hold(gateway, !slices.Contains(addresses, gateway))
}
