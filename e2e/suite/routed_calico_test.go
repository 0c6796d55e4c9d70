// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// calicoPinned checks a pod of Calico's datapath. That nobody asks for the IPv4 gateway also says that nothing waited for the
// kernel's proxy, which takes up to 0.8 s.
func calicoPinned(t *testing.T, r *rowRun) {
	r.pinned(t, map[string]truth{datapath.CalicoGateway4: {datapath.CalicoMAC, "peer"}, datapath.CalicoGateway6: {datapath.CalicoMAC, "peer"}})
	r.skipped(t, map[string]string{})
	r.reaches(t, node.Beyond()...)
	r.silent(t, datapath.CalicoGateway4, datapath.CalicoGateway6)
}

// uplink gives the node a default route through another link than the pod's, without which the kernel is no proxy.
func uplink(t *testing.T, _ *rowRun) {
	t.Helper()
	hostGateway(t)
	ip(t, "route", "add", "default", "via", "192.0.2.1", "dev", "up0")
}

func TestRowCalico(t *testing.T) {
	row(t, rowSpec{name: "calico", before: uplink}, calicoPinned)
}

// Without neighpin the kernel answers, when it pleases.
func TestRowCalicoControl(t *testing.T) {
	row(t, rowSpec{name: "calico", before: uplink, control: true}, func(t *testing.T, r *rowRun) {
		r.reaches(t, node.Beyond()...)
		asked, answered := r.asked(datapath.CalicoGateway4), r.answered(wire.ARPReply, datapath.CalicoGateway4)
		if len(asked) == 0 || len(answered) == 0 || answered[0].MAC != datapath.CalicoMAC {
			t.Fatalf("want a question and the kernel's answer, have\n%s%s", wire.Format(asked), wire.Format(answered))
		}
		t.Logf("the proxy's answer came after %s", answered[0].Time.Sub(asked[0].Time).Round(time.Millisecond))
	})
}

// The proxy is switched off, or the node has no other way: what works does so because of the pin.
func TestRowCalicoWithoutProxy(t *testing.T) {
	row(t, rowSpec{name: "calico-silent", before: uplink}, calicoPinned)
}

// IPv6 works all the same: its gateway is an address of the host's end.
func TestRowCalicoWithoutProxyControl(t *testing.T) {
	row(t, rowSpec{name: "calico-silent", before: uplink, control: true}, func(t *testing.T, r *rowRun) {
		if err := r.try(t, node.Beyond()[0]); err == nil {
			t.Errorf("%s is reached although nobody answers for the gateway", node.Beyond()[0])
		}
		r.reaches(t, node.Beyond()[1])
	})
}
