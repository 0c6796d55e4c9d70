// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// pollInterval is the pause of a plugin that waits for an answer by looking again.
const pollInterval = 10 * time.Millisecond

// naive is the plugin that one writes first: it enters the namespace, sends a datagram to every gateway, so that the kernel asks
// for it, looks until there is an answer, and makes that permanent.
func naive(ctx context.Context, path string) (err error) {
	// A thread that cannot return ends with its goroutine.
	runtime.LockOSThread()
	home, err := handle.Get()
	if err != nil {
		return fmt.Errorf("remember the own namespace: %w", err)
	}
	defer home.Close()
	pod, err := handle.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer pod.Close()
	if err := handle.Set(pod); err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer func() {
		if back := handle.Set(home); back != nil {
			err = errors.Join(err, fmt.Errorf("return from namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	gateways, err := defaultGateways(h)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if err := provoke(g.IP); err != nil {
			return err
		}
	}
	for _, g := range gateways {
		err := await.Every(ctx, pollInterval, "the answer of "+g.IP.String(), func() (err error) {
			g.HardwareAddr, err = resolved(h, g)
			return err
		})
		if err != nil {
			return err
		}
		if err := h.NeighSet(&g); err != nil {
			return fmt.Errorf("pin %s: %w", g.IP, err)
		}
	}
	return nil
}

// defaultGateways are entries for the gateways of default routes, without an address.
func defaultGateways(h *netlink.Handle) (list []netlink.Neigh, err error) {
	routes, err := h.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Gw != nil {
			list = append(list, netlink.Neigh{LinkIndex: r.LinkIndex, IP: r.Gw, State: netlink.NUD_PERMANENT})
		}
	}
	return list, nil
}

// provoke sends a datagram that nobody wants.
func provoke(ip net.IP) error {
	const discard = 9
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: ip, Port: discard})
	if err != nil {
		return fmt.Errorf("connect to %s: %w", ip, err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0}); err != nil {
		return fmt.Errorf("send to %s: %w", ip, err)
	}
	return nil
}

func resolved(h *netlink.Handle, of netlink.Neigh) (net.HardwareAddr, error) {
	family := netlink.FAMILY_V6
	if of.IP.To4() != nil {
		family = netlink.FAMILY_V4
	}
	list, err := h.NeighList(of.LinkIndex, family)
	if err != nil {
		return nil, fmt.Errorf("list neighbors: %w", err)
	}
	for _, n := range list {
		if n.IP.Equal(of.IP) && len(n.HardwareAddr) > 0 && n.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY) != 0 {
			return n.HardwareAddr, nil
		}
	}
	return nil, fmt.Errorf("find %s: %w", of.IP, unix.ENOENT)
}

// copying is what Kata's way would be, at its best: the kernel is made to ask once for every gateway, tells when it has an
// answer, and the entry that is REACHABLE then is copied.
func copying(ctx context.Context, path string) error {
	pod, err := handle.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer pod.Close()
	updates, done := make(chan netlink.NeighUpdate, 16), make(chan struct{})
	defer func() {
		close(done)
		for range updates { // closed by the library when it has ended
		}
	}()
	if err := netlink.NeighSubscribeWithOptions(updates, done, netlink.NeighSubscribeOptions{Namespace: &pod}); err != nil {
		close(updates)
		return fmt.Errorf("listen for neighbors: %w", err)
	}
	h, err := netlink.NewHandleAt(pod, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	gateways, err := defaultGateways(h)
	if err != nil {
		return err
	}
	waiting := make(map[string]bool)
	for _, g := range gateways {
		waiting[g.IP.String()] = true
		if err := h.NeighSet(&netlink.Neigh{LinkIndex: g.LinkIndex, IP: g.IP, Flags: unix.NTF_USE}); err != nil {
			return fmt.Errorf("have %s asked for: %w", g.IP, err)
		}
	}
	for len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for answers: %w", ctx.Err())
		case u, open := <-updates:
			if !open {
				return errors.New("wait for answers: the kernel tells no more")
			}
			if name := u.IP.String(); u.Type == unix.RTM_NEWNEIGH && u.State == netlink.NUD_REACHABLE && waiting[name] {
				delete(waiting, name)
				if err := h.NeighSet(&netlink.Neigh{LinkIndex: u.LinkIndex, IP: u.IP, HardwareAddr: u.HardwareAddr, State: netlink.NUD_PERMANENT}); err != nil {
					return fmt.Errorf("pin %s: %w", name, err)
				}
			}
		}
	}
	return nil
}

// hook is the script that an operator would write.
const hook = `
gateways() { ip "$1" route show default | while read -r _ _ gateway _ link _; do echo "$gateway $link"; done; }
gateways -4 | while read -r gateway link; do
	mac=$(arping -f -c 1 -w 2 -I "$link" "$gateway" | sed -n 's/.*\[\(.*\)\].*/\1/p')
	ip neigh replace "$gateway" lladdr "$mac" dev "$link" nud permanent
done
gateways -6 | while read -r gateway link; do
	ping -6 -q -c 1 -W 2 "$gateway" >/dev/null
	mac=$(ip -6 neigh show "$gateway" dev "$link" | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
	ip -6 neigh replace "$gateway" lladdr "$mac" dev "$link" nud permanent
done
`

func shell(ctx context.Context, path string) error {
	if out, err := exec.CommandContext(ctx, "nsenter", "--net="+path, "--", "sh", "-ec", hook).CombinedOutput(); err != nil {
		return fmt.Errorf("run the hook: %w\n%s", err, out)
	}
	return nil
}

// conf is what libcni gives a chained plugin. The result before it need not be true: the plugin looks for itself.
const conf = `{"cniVersion":"1.0.0","name":"bench","type":"cni-pin","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}]}}`

// chained starts a CNI plugin, as libcni does it for every pod.
func chained(plugin string) func(context.Context, string) error {
	return func(ctx context.Context, path string) error {
		cmd := exec.CommandContext(ctx, plugin)
		cmd.Env = []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=bench", "CNI_NETNS=" + path, "CNI_IFNAME=" + rig.PodLink, "CNI_PATH=/opt/cni/bin"}
		cmd.Stdin = strings.NewReader(conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("run the CNI plugin: %w\n%s", err, out)
		}
		return nil
	}
}
