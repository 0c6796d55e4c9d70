// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// gatewayBeside makes a veth of the node of which one end is a port of the bridge and the other one, which is named, holds the gateways'
// addresses; it returns that one's MAC. CNI's bridge plugin does so where it is told a VLAN.
func gatewayBeside(t *testing.T, name string, prefixes ...string) (mac string) {
	t.Helper()
	ip(t, "link", "add", name, "type", "veth", "peer", "name", name+"p")
	t.Cleanup(func() { ip(t, "link", "delete", name) })
	ip(t, "link", "set", name+"p", "up", "master", datapath.SegmentLink)
	ip(t, "link", "set", name, "up")
	hold(t, name, prefixes...)
	return linkMAC(t, name)
}

func linkMAC(t *testing.T, name string) string {
	t.Helper()
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.HardwareAddr.String()
}

func TestRowGatewayBesideTheBridge(t *testing.T) {
	var mac string
	spec := rowSpec{name: "bridge", before: func(t *testing.T, _ *rowRun) {
		makeBridge(t)
		mac = gatewayBeside(t, "gateway0", segmentPrefixes...)
	}}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.pinned(t, both(truth{mac, "host"}))
		r.skipped(t, map[string]string{})
		r.reaches(t, node.Targets()...)
		r.silent(t, segmentGateways...)

		const next = "02:00:5e:00:01:08"
		ip(t, "link", "set", "gateway0", "address", next)
		r.follows(t, mac, truth{next, "host"})
	})
}

// Of two links that hold the same address, on a bridge that keeps no VLANs apart, either might answer.
func TestRowTwoGatewaysBesideTheBridge(t *testing.T) {
	spec := rowSpec{name: "bridge", before: func(t *testing.T, _ *rowRun) {
		makeBridge(t)
		gatewayBeside(t, "gateway0", segmentPrefixes...)
		gatewayBeside(t, "gateway1", "10.97.0.1/32", "fd97::1/128")
	}}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.unpinned(t, "RouterBeyondBridge")
		r.reaches(t, node.Targets()...)
	})
}

// CNI's own plugin with a VLAN, where the kernel's bridges can keep VLANs apart. A gateway on a VLAN link upon the bridge, and two VLANs
// whose gateways have the same address, are in package neighbor's tests, with what kernels that have them say.
func TestRowBridgeCNIWithAVLAN(t *testing.T) {
	if !bridgesFilterVLANs(t) {
		// CNI's plugin then builds nothing, which is all there is to see here; its shape is TestRowGatewayBesideTheBridge's.
		keepLogs(t)
		_, err := bed.RunPod(t.Context(), node.PodSpec{Namespace: "bridge-vlan", Handler: "runc"})
		if err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("a pod on a bridge that filters VLANs, on a kernel that cannot: %v", err)
		}
		t.Log("this kernel's bridges filter no VLANs:", err)
		return
	}
	spec := rowSpec{name: "bridge-vlan", before: func(t *testing.T, _ *rowRun) {
		t.Cleanup(func() { ip(t, "link", "delete", datapath.SegmentLink) })
	}}
	row(t, spec, func(t *testing.T, r *rowRun) {
		mac := linkMAC(t, fmt.Sprintf("%s.%d", datapath.SegmentLink, datapath.SegmentVLAN))
		r.pinned(t, both(truth{mac, "host"}))
		r.reaches(t, node.Targets()...)
		r.silent(t, segmentGateways...)
	})
}

func bridgesFilterVLANs(t *testing.T) bool {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe0"
	filter := true
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, VlanFiltering: &filter})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return false
	case err != nil:
		t.Fatal(err)
	}
	ip(t, "link", "delete", attrs.Name)
	return true
}
