// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// What runtimes accept of the entries that they find in a sandbox. A pin that one
// of them refuses costs the sandbox its start, so their rules are written down
// here as they are, each with its source, and held against what was pinned.

// NTF_* flags, of include/uapi/linux/neighbour.h.
const (
	ntfProxy  = 0x08
	ntfRouter = 0x80
)

// genpolicy is the rule of Kata's confidential containers for the entries that
// the runtime passes to the guest's agent: kata-containers 4.1.0,
// src/tools/genpolicy/rules.rego, AddARPNeighborsRequest, and
// genpolicy-settings.json. A refusal ends the sandbox's start
// (src/runtime/virtcontainers/kata_agent.go, addARPNeighbors). Until 3.29 state 128
// alone was allowed.
func genpolicy(device string, n netlink.Neigh) error {
	switch {
	case device == "lo":
		return errors.New("the device is forbidden")
	case strings.HasPrefix(n.IP.String(), "127.") || n.IP.String() == "::1":
		return errors.New("the address is forbidden")
	case n.State != unix.NUD_PERMANENT && n.State != unix.NUD_REACHABLE:
		return fmt.Errorf("state %d is not in {2, 128}", n.State)
	case n.Flags|ntfProxy|ntfRouter != ntfProxy|ntfRouter:
		return fmt.Errorf("flags %#x are more than NTF_PROXY and NTF_ROUTER", n.Flags)
	}
	return nil
}

// copied is what runtimes take of a link's entries: those whose state is
// permanent and nothing else. gVisor: runsc/sandbox/network.go, all families, no
// flags. Kata: src/runtime/virtcontainers/network_linux.go, with the flags.
func copied(t *testing.T, ns *nstest.NS, dev string, family int) (list []netlink.Neigh) {
	t.Helper()
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.FD()))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	all, err := handle.NeighList(linkIndex(t, openTable(t, ns.NS), dev), family)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if n.State == netlink.NUD_PERMANENT && n.HardwareAddr != nil {
			list = append(list, n)
		}
	}
	return list
}

func TestPinsAreWhatRuntimesAccept(t *testing.T) {
	for _, c := range []struct {
		name string
		pod  []string
		v6   bool // on the link
		want int  // entries
	}{
		{"both families", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"addr add fd00::2/64 dev eth0 nodad", "route add default via fd00::1"}, true, 2},
		{"one gateway in many routes and tables", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"route add default via 10.0.0.1 table 100", "route add 192.0.2.0/24 via 10.0.0.1 metric 7",
			"route add 198.51.100.0/24 nexthop via 10.0.0.1 dev eth0 nexthop via 10.0.0.1 dev eth0 weight 2"}, true, 1},
		{"a gateway that Calico and AWS use", []string{"addr add 10.0.0.2/32 dev eth0", "route add 169.254.1.1 dev eth0 scope link",
			"route add default via 169.254.1.1", "route add default via fe80::ecee:eeff:feee:eeee dev eth0"}, true, 2},
		{"a dynamic entry with flags before", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"neigh add 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud stale router"}, true, 1},
		{"one that somebody learned outside the kernel", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"neigh add 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud reachable extern_learn"}, true, 1},
		{"one whose address was right", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"neigh add 10.0.0.1 lladdr " + hostMAC + " dev eth0 nud reachable extern_learn"}, true, 1},
		{"one that the kernel keeps alive", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"neigh add 10.0.0.1 dev eth0 managed"}, true, 1},
		{"IPv6 is off on the link", []string{"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
			"-4 route add 192.0.2.0/24 via inet6 fe80::1 dev eth0"}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, pod := nstest.Pair(t)
			for _, line := range c.pod {
				pod.Output(fields(line)...)
			}
			if !c.v6 {
				pod.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")
			}
			tb := openTable(t, pod.NS)
			pin(t, tb, resolve(t, tb).Neighbors)
			list := copied(t, pod, "eth0", netlink.FAMILY_ALL)
			once := make(map[string]bool)
			for _, n := range list {
				if err := genpolicy("eth0", n); err != nil {
					t.Errorf("Kata's policy refuses %v: %v", n, err)
				}
				// NTF_ROUTER is what the kernel has learned from an
				// advertisement, and stays with the entry.
				if n.Flags&^ntfRouter != 0 || n.FlagsExt != 0 {
					t.Errorf("%v has flags %#x, %#x", n, n.Flags, n.FlagsExt)
				}
				if once[n.IP.String()] {
					t.Errorf("%v is there twice", n)
				}
				once[n.IP.String()] = true
				// The guest's agent would be refused by its kernel, and with it
				// the sandbox, where IPv6 is off there too.
				if n.IP.To4() == nil && !c.v6 {
					t.Errorf("%v on a link without IPv6", n)
				}
			}
			if len(list) != c.want {
				t.Errorf("%d entries, want %d: %v", len(list), c.want, list)
			}
			peerPod(t, copied(t, pod, "eth0", netlink.FAMILY_V4))
		})
	}
}

// peerPod makes the entries anew in a pod's virtual machine as confidential
// containers' peer pods do: IPv4 of the primary link only
// (cloud-api-adaptor, pkg/podnetwork/workernode.go), by NeighAdd, which is
// NLM_F_CREATE|NLM_F_EXCL (pkg/util/netops/netops.go): a second entry for one
// gateway ends the pod's start.
func peerPod(t *testing.T, list []netlink.Neigh) {
	t.Helper()
	_, vm := nstest.Pair(t)
	handle, err := netlink.NewHandleAt(netns.NsHandle(vm.FD()))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	index := linkIndex(t, openTable(t, vm.NS), "eth0")
	for _, n := range list {
		entry := &netlink.Neigh{LinkIndex: index, IP: n.IP, HardwareAddr: n.HardwareAddr, State: n.State}
		if err := handle.NeighAdd(entry); err != nil {
			t.Errorf("add %v: %v", n, err)
		}
		// The control: what a second one would do.
		if err := handle.NeighAdd(entry); !errors.Is(err, unix.EEXIST) {
			t.Errorf("add %v again: %v", n, err)
		}
	}
}

// The rule is not blind: entries that others may make are refused by it.
func TestRuleOfKatasPolicyRefuses(t *testing.T) {
	_, pod := nstest.Pair(t)
	pod.IP("addr add 10.0.0.2/24 dev eth0",
		"neigh add 10.0.0.7 lladdr "+hostMAC+" dev eth0 nud permanent extern_learn",
		"neigh add 10.0.0.8 lladdr "+hostMAC+" dev eth0 nud permanent router",
		"neigh add 10.0.0.9 lladdr "+hostMAC+" dev eth0 nud stale")
	handle, err := netlink.NewHandleAt(netns.NsHandle(pod.FD()))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	list, err := handle.NeighList(linkIndex(t, openTable(t, pod.NS), "eth0"), netlink.FAMILY_V4)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, n := range list {
		if err, refused := genpolicy("eth0", n), n.IP.String() != "10.0.0.8"; (err != nil) != refused {
			t.Errorf("%v: %v", n, err)
		}
	}
}
