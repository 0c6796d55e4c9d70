// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// slowness is how long the slow network takes; longer than NRI gives a plugin.
const slowness = 5 * time.Second

// plain are CNI's ptp with one thing done after it.
func plain() []Datapath {
	del := delegated("ptp")
	return []Datapath{
		// As Amazon's VPC CNI does: ADD fails if an entry is there already.
		{Name: "aws", Add: after(ptp, addEntries), Del: del},
		// As Cilium does, to the value that it has: the kernel then flushes the link's neighbors, permanent ones too.
		{Name: "mac-last", Add: after(ptp, func(e *Env, _ *current.Result) error { return e.Inside(e.setMACAgain) }), Del: del},
		{Name: "slow", Add: after(ptp, func(*Env, *current.Result) error {
			// The scenario itself, no wait for anything.
			time.Sleep(slowness)
			return nil
		}), Del: del},
		// Links, addresses and routes are in place by then.
		{Name: "fail", Add: after(ptp, func(*Env, *current.Result) error { return errors.New("the network of namespace fail fails") }), Del: del},
	}
}

// ptp is CNI's own plugin.
func ptp(e *Env) (*current.Result, error) {
	if err := e.WithoutDAD(); err != nil {
		return nil, err
	}
	return e.Delegate("ptp", nil)
}

// after does something to the network that add has built.
func after(add func(*Env) (*current.Result, error), finish func(*Env, *current.Result) error) func(*Env) (*current.Result, error) {
	return func(e *Env) (*current.Result, error) {
		result, err := add(e)
		if err != nil {
			return nil, err
		}
		return result, finish(e, result)
	}
}

// addEntries adds a permanent neighbor per gateway with the MAC of the host's end, the first link of the result, and insists on being
// first (CREATE|EXCL).
func addEntries(e *Env, result *current.Result) error {
	if len(result.Interfaces) == 0 {
		return errors.New("the result names no links")
	}
	mac, err := net.ParseMAC(result.Interfaces[0].Mac)
	if err != nil {
		return fmt.Errorf("parse the MAC of the host's end: %w", err)
	}
	return e.Inside(func() error {
		link, err := netlink.LinkByName(e.IfName)
		if err != nil {
			return fmt.Errorf("find %s: %w", e.IfName, err)
		}
		for _, ip := range result.IPs {
			neighbor := &netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, IP: ip.Gateway, HardwareAddr: mac}
			// NeighAdd asks for CREATE|EXCL.
			if err := netlink.NeighAdd(neighbor); err != nil {
				return fmt.Errorf("add neighbor %s: %w", ip.Gateway, err)
			}
		}
		return nil
	})
}

// setMACAgain sets the MAC of the pod's link to the value that it has. It runs in the pod.
func (e *Env) setMACAgain() error {
	link, err := netlink.LinkByName(e.IfName)
	if err != nil {
		return fmt.Errorf("find %s: %w", e.IfName, err)
	}
	if err := netlink.LinkSetHardwareAddr(link, link.Attrs().HardwareAddr); err != nil {
		return fmt.Errorf("set the MAC of %s: %w", e.IfName, err)
	}
	return nil
}
