// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

var (
	observed = []string{"--observe", "--compare-interval", "1s", "--metrics-address", metricsAddress}

	askedForGateways = `neighpin_observed_solicitations_total{target="gateway"}`
	askedForOthers   = `neighpin_observed_solicitations_total{target="other"}`
)

// ingress are the programs that tcx runs on the host's end of a pod's link.
func ingress(pod *node.Pod) ([]link.AttachedProgram, error) {
	end, err := net.InterfaceByName(pod.HostLink)
	if err != nil {
		return nil, err
	}
	there, err := link.QueryPrograms(link.QueryOptions{Target: end.Index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, err
	}
	return there.Programs, nil
}

// watched waits until the pod is observed.
func (r *rowRun) watched(t *testing.T) {
	t.Helper()
	r.eventually(t, "the pod to be observed", func() error {
		if r.sandbox.Observed == nil {
			return fmt.Errorf("it is not")
		}
		return nil
	})
}

// A pinned pod asks for no gateway, whoever has its stack; and nothing is left on its link when neighpin is killed.
func TestRowObserved(t *testing.T) {
	row(t, rowSpec{name: "cilium-silent", args: observed}, func(t *testing.T, r *rowRun) {
		r.watched(t)
		r.reaches(t, node.Beyond()...)
		r.silent(t, datapath.CiliumGateway4, datapath.CiliumGateway6)
		r.refresh(t)
		if o := r.sandbox.Observed; o == nil || o.Gateways != 0 || o.Since.Before(r.begin) {
			t.Errorf("observed %+v", o)
		}
		if value, err := metric(askedForGateways); err != nil || value != 0 {
			t.Errorf("%s is %g, %v", askedForGateways, value, err)
		}
		if programs, err := ingress(r.pod); err != nil || len(programs) != 1 {
			t.Errorf("programs %v, %v; want ours alone", programs, err)
		}
		if err := r.d.Kill(); err != nil {
			t.Fatal(err)
		}
		err := await.Within(t.Context(), patience, "the program to go with neighpin", func() error {
			programs, err := ingress(r.pod)
			if err == nil && len(programs) != 0 {
				err = fmt.Errorf("programs %v", programs)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		r.reaches(t, node.Beyond()...)
	})
}

// What is observed sees: a pod whose gateways are not pinned asks, and is counted.
func TestRowObservedControl(t *testing.T) {
	spec := rowSpec{name: "bridge", args: observed, before: func(t *testing.T, _ *rowRun) { routerBeyond(t) }}
	row(t, spec, func(t *testing.T, r *rowRun) {
		r.unpinned(t, "RouterBeyondBridge")
		r.watched(t)
		r.reaches(t, node.Targets()...)
		r.eventually(t, "the pod's questions to be counted", func() error {
			if o := r.sandbox.Observed; o == nil || o.Gateways != 0 || o.Others == 0 {
				return fmt.Errorf("observed %+v", o)
			}
			return nil
		})
		r.counted(t, askedForOthers, 1)
	})
}

// Cilium's program, which answers all questions itself, goes on doing so, behind ours and before it; and ours counts.
func TestRowObservedBesideCilium(t *testing.T) {
	row(t, rowSpec{name: "cilium", args: observed, only: "runc"}, func(t *testing.T, r *rowRun) {
		ciliumPinned(t, r)
		r.watched(t)
		r.answered4(t, "10.96.0.77")
		r.asks(t, 1)
		before, err := ingress(r.pod)
		if err != nil || len(before) != 2 {
			t.Fatalf("programs %v, %v; want ours and the one that answers", before, err)
		}
		if err := datapath.Respond(r.pod.HostLink, "10.96.255.254", datapath.CiliumGateway6); err != nil {
			t.Fatal(err)
		}
		r.answered4(t, "10.96.0.78") // whether ours is in front again by then or not
		r.eventually(t, "ours to be in front again", func() error {
			now, err := ingress(r.pod)
			if err == nil && (len(now) != 3 || now[0].ID != before[0].ID) {
				err = fmt.Errorf("programs %v", now)
			}
			return err
		})
		counted := r.sandbox.Observed.Others
		r.answered4(t, "10.96.0.79")
		r.asks(t, counted+1)
		r.silent(t, datapath.CiliumGateway4, datapath.CiliumGateway6)
	})
}

// answered4 has the pod ask for an address on its own link, which nobody has, and checks that the program answers.
func (r *rowRun) answered4(t *testing.T, dst string) {
	t.Helper()
	mac := r.hostEnd(t)
	err := datapath.Inside(r.pod.NetNS, func() error {
		if out, err := exec.Command("ip", "route", "replace", dst+"/32", "dev", "eth0", "scope", "link").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		c, err := net.Dial("udp", net.JoinHostPort(dst, "9"))
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	err = await.Within(t.Context(), patience, "an answer for "+dst, func() error {
		return datapath.Inside(r.pod.NetNS, func() error {
			out, err := exec.Command("ip", "neigh", "show", dst).CombinedOutput()
			if err == nil && !strings.Contains(string(out), mac) {
				err = fmt.Errorf("the entry is %q, want %s", out, mac)
			}
			return err
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// asks waits until at least so many questions for anything but gateways have been counted, and none for them.
func (r *rowRun) asks(t *testing.T, least uint64) {
	t.Helper()
	r.eventually(t, "the question to be counted", func() error {
		if o := r.sandbox.Observed; o == nil || o.Others < least || o.Gateways != 0 {
			return fmt.Errorf("observed %+v, want %d", o, least)
		}
		return nil
	})
}
