// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	noisySpaces = 4
	// noisyTick is the time between two changes, as long as there are no more a second.
	noisyTick = time.Millisecond
	// distinct addresses are used in turn.
	distinct = 200
)

// noise changes routes and entries in namespaces that are no pods, as CNI plugins and the kernel do for pods that nobody has selected. The
// node's namespace has numbered them, since their links lead there.
type noise struct {
	places  []noisyPlace
	step    int
	gateway bool // entries are of the pods' own gateway, which is the most that noise can look like what matters
}

type noisyPlace struct {
	links *netlink.Handle
	index int
}

func newNoise(b *bed) (n *noise, err error) {
	n = &noise{}
	for i := range noisySpaces {
		s, err := b.add(fmt.Sprintf("noisy%d", i))
		if err != nil {
			return nil, err
		}
		link, err := s.Link()
		if err == nil {
			err = s.Links.LinkSetUp(link)
		}
		if err != nil {
			return nil, fmt.Errorf("furnish %s: %w", s.Path, err)
		}
		n.places = append(n.places, noisyPlace{links: s.Links, index: link.Attrs().Index})
	}
	return n, nil
}

// change makes one change, of which the kernel tells by one message: in turn a route comes, an entry comes, the route goes, the
// entry goes. Half of the entries are permanent.
func (n *noise) change() error {
	i := n.step / 4
	p := n.places[i%len(n.places)]
	ip := net.IPv4(172, 20, 0, byte(1+i/len(n.places)%distinct)).To4()
	entry := &netlink.Neigh{LinkIndex: p.index, IP: ip, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, State: unix.NUD_PERMANENT}
	if n.gateway {
		entry.IP = net.ParseIP(gateway4).To4()
	}
	if i%2 == 1 {
		entry.State = unix.NUD_STALE
	}
	route := &netlink.Route{LinkIndex: p.index, Dst: netlink.NewIPNet(ip), Scope: netlink.SCOPE_LINK}
	var err error
	switch n.step % 4 {
	case 0:
		err = p.links.RouteAdd(route)
	case 1:
		err = p.links.NeighAdd(entry)
	case 2:
		err = p.links.RouteDel(route)
	case 3:
		err = p.links.NeighDel(entry)
	}
	n.step++
	if err != nil {
		return fmt.Errorf("make change %d of the noise: %w", n.step, err)
	}
	return nil
}

// run makes that many changes a second until the context ends, and returns how many it has made. A machine that cannot do so many makes
// fewer. It leaves nothing behind.
func (n *noise) run(ctx context.Context, rate float64) (made int, err error) {
	ticker := time.NewTicker(noisyTick)
	defer ticker.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			for ; n.step%4 != 0 && err == nil; made++ {
				err = n.change()
			}
			return made, err
		case <-ticker.C:
		}
		for due := int(time.Since(began).Seconds() * rate); made < due && ctx.Err() == nil; made++ {
			if err := n.change(); err != nil {
				return made, err
			}
		}
	}
}
