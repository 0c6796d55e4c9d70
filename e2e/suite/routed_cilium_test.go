// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// ciliumPinned checks a pod of Cilium's datapath: pinned to the host's end, working, silent, and nothing anywhere but the entries.
func ciliumPinned(t *testing.T, r *rowRun) {
	mac := r.hostEnd(t)
	r.pinned(t, map[string]truth{datapath.CiliumGateway4: {mac, "peer"}, datapath.CiliumGateway6: {mac, "peer"}})
	r.skipped(t, map[string]string{})
	r.reaches(t, node.Beyond()...)
	r.silent(t, datapath.CiliumGateway4, datapath.CiliumGateway6)
	proxies, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/proxy_arp")
	if err != nil || len(proxies) == 0 {
		t.Fatalf("no proxy_arp to be seen: %v, %v", proxies, err)
	}
	for _, path := range proxies {
		if value, err := os.ReadFile(path); err != nil || string(value) != "0\n" {
			t.Errorf("%s is %q, %v", path, value, err)
		}
	}
}

// The gateways are nobody's; a program on the host's end answers for them.
func TestRowCilium(t *testing.T) {
	row(t, rowSpec{name: "cilium"}, ciliumPinned)
}

// Without neighpin it is the program that makes the pod work: it answers both families, with the MAC that would be pinned.
func TestRowCiliumControl(t *testing.T) {
	row(t, rowSpec{name: "cilium", control: true}, func(t *testing.T, r *rowRun) {
		r.reaches(t, node.Beyond()...)
		mac := r.hostEnd(t)
		for gateway, kind := range map[string]wire.Kind{datapath.CiliumGateway4: wire.ARPReply, datapath.CiliumGateway6: wire.Advertisement} {
			asked, answered := r.asked(gateway), r.answered(kind, gateway)
			if len(asked) == 0 || len(answered) == 0 || answered[0].MAC != mac {
				t.Errorf("want a question for %s and an answer from %s, have\n%s%s", gateway, mac, wire.Format(asked), wire.Format(answered))
			}
		}
	})
}

// Nobody answers for the gateways at all: what works does so because of the pin.
func TestRowCiliumSilent(t *testing.T) {
	row(t, rowSpec{name: "cilium-silent"}, ciliumPinned)
}

func TestRowCiliumSilentControl(t *testing.T) {
	row(t, rowSpec{name: "cilium-silent", control: true}, func(t *testing.T, r *rowRun) {
		for _, target := range node.Beyond() {
			if err := r.try(t, target); err == nil {
				t.Errorf("%s is reached although nobody answers for the gateway", target)
			}
		}
	})
}

// The pod's IPv6 address is not usable yet when the CNI is done: duplicate address detection takes a second and more. The pin needs
// neither the address nor an answer, and waits for none. (gVisor does not detect duplicates, and uses the address at once.)
func TestRowAddressStillTentative(t *testing.T) {
	// Milliseconds of a detection: RetransTimer of RFC 4861, the kernel's default. Who waits for its end is never sooner; who does not may be
	// later on a machine that stands still for a while, but not pod after pod.
	soon := func(r *rowRun) bool { return r.sandbox.Timing.ResultToPinMs < 1000 }
	row(t, rowSpec{name: "tentative", tries: 5, lucky: soon}, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		r.pinned(t, map[string]truth{datapath.CiliumGateway4: {mac, "peer"}, datapath.CiliumGateway6: {mac, "peer"}})
		if !soon(r) {
			t.Errorf("the pin came %.0f ms after the CNI was done", r.sandbox.Timing.ResultToPinMs)
		}
		err := await.Within(t.Context(), patience, "the end of duplicate address detection", func() error { return r.try(t, node.Beyond()...) })
		if err != nil {
			t.Error(err)
		}
		r.silent(t, datapath.CiliumGateway4, datapath.CiliumGateway6)
	})
}

// Without neighpin the kernel cannot even ask for the gateway until then; in the end nobody answers.
func TestRowAddressStillTentativeControl(t *testing.T) {
	row(t, rowSpec{name: "tentative", control: true, only: "runc"}, func(t *testing.T, r *rowRun) {
		tentative, err := r.wire.Await(within(t, patience), wire.Query{Link: r.pod.HostLink, Since: r.begin, Targets: r.pod.Addresses, Kinds: []wire.Kind{wire.Solicitation}, Incoming: true}, 1)
		if err != nil || !tentative[0].Sender.IsUnspecified() {
			t.Errorf("the pod detects no duplicates: %v\n%s", err, wire.Format(tentative))
		}
		if err := r.try(t, node.Beyond()[1]); err == nil {
			t.Errorf("%s is reached although nobody answers for the gateway", node.Beyond()[1])
		}
	})
}

// The comparison of settings sees the one that pods of such networks are usually helped with, and one in the pod.
func TestRowSysctlControl(t *testing.T) {
	row(t, rowSpec{name: "cilium", control: true, only: "runc"}, func(t *testing.T, r *rowRun) {
		node, pod := "ipv4/conf/"+r.pod.HostLink+"/proxy_arp", "ipv4/conf/eth0/arp_accept"
		set := func(value string) {
			t.Helper()
			if err := datapath.Sysctl(node, value); err != nil {
				t.Error(err)
			}
			if err := datapath.Inside(r.pod.NetNS, func() error { return datapath.Sysctl(pod, value) }); err != nil {
				t.Error(err)
			}
		}
		set("1")
		changed, err := r.sysctlsChanged()
		want := []string{`node: ` + node + ` was "0", is "1"`, `pod: ` + pod + ` was "0", is "1"`}
		if err != nil || !slices.Equal(changed, want) {
			t.Errorf("changed %q, %v; want %q", changed, err, want)
		}
		set("0")
	})
}
