// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// repairLimit is far above what a repair may take.
const repairLimit = time.Minute

// repaired takes a pod's pin away and returns how long it took until it was back.
func (p *pod) repaired(ctx context.Context) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	ns, err := netns.Open(p.path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	at := handle.NsHandle(ns.FD())
	links, err := netlink.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer links.Close()
	updates, done, failed := make(chan netlink.NeighUpdate, 16), make(chan struct{}), make(chan error, 1)
	defer close(done)
	if err := netlink.NeighSubscribeWithOptions(updates, done, netlink.NeighSubscribeOptions{Namespace: &at, ErrorCallback: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}}); err != nil {
		return 0, fmt.Errorf("listen to the pod's entries: %w", err)
	}
	pin, err := p.pin(links)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := links.NeighDel(pin); err != nil {
		return 0, fmt.Errorf("remove the pin of pod %d: %w", p.number, err)
	}
	for {
		select {
		case u := <-updates:
			if u.Type == unix.RTM_NEWNEIGH && u.IP.Equal(pin.IP) && u.State == unix.NUD_PERMANENT && bytes.Equal(u.HardwareAddr, p.lladdr) {
				return time.Since(began), nil
			}
		case err := <-failed:
			return 0, fmt.Errorf("hear of the pod's entries: %w", err)
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the pin of pod %d to be back: %w", p.number, ctx.Err())
		}
	}
}

// pin is the pod's entry for its IPv4 gateway, which is to be what is true.
func (p *pod) pin(links *netlink.Handle) (*netlink.Neigh, error) {
	list, err := links.NeighList(0, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("list the entries of pod %d: %w", p.number, err)
	}
	for _, n := range list {
		if n.IP.String() != gateway4 {
			continue
		}
		if n.State != unix.NUD_PERMANENT || !bytes.Equal(n.HardwareAddr, p.lladdr) {
			return nil, fmt.Errorf("look at the entry of pod %d: it is %#x with %s, not permanent with %s", p.number, n.State, n.HardwareAddr, p.lladdr)
		}
		return &n, nil
	}
	return nil, errors.New("find the pod's pin: there is none")
}
