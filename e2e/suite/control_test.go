// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// Without neighpin a gVisor pod must ask for its gateways before its first packet leaves. If this ever passes
// in silence, the capture sees nothing or gVisor has changed, and the pinned runs prove nothing.
func TestControlGVisorAsksForItsGateways(t *testing.T) {
	keepLogs(t)
	messages := capture(t)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	container := runContainer(t, pod)

	begin := time.Now()
	connect(t, container)
	for _, gateway := range []struct {
		kind wire.Kind
		wire.Query
	}{
		{wire.ARPRequest, wire.Asks(pod.HostLink, begin, node.Gateway4)},
		{wire.Solicitation, wire.Asks(pod.HostLink, begin, node.Gateway6)},
	} {
		asked, err := messages.Await(within(t, patience), gateway.Query, 1)
		if err != nil {
			t.Fatalf("no %s for the gateway on %s: %v\nall messages:\n%s", gateway.kind, pod.HostLink, err, wire.Format(messages.Messages(wire.Query{})))
		}
		t.Logf("asked:\n%s", wire.Format(asked))
	}

	copied, err := pod.Copied()
	if err != nil {
		t.Fatal(err)
	}
	if len(copied) != 0 {
		t.Errorf("runsc copied %v, although nobody pinned anything", copied)
	}
}
