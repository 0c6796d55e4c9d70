// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

// value is one of a row's.
func value(t *testing.T, row bench.Row, name string) float64 {
	t.Helper()
	for _, v := range row.Values {
		if v.Name == name {
			return v.Value
		}
	}
	t.Fatalf("row %s has no %s", row.Name, name)
	return 0
}

// Who asks for whom does not depend on the machine: pinned pods for nobody, the others for both gateways, as often as it takes, and a host
// with returnPath not for the pod.
func TestPinnedPodsAskForNobodyAndTheOthersDo(t *testing.T) {
	result, err := runFirstPacket(t.Context(), bench.Env{Short: true, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	result.Print(t.Output())
	if len(result.Rows) != 9 || len(result.Ratios) != 5 {
		t.Errorf("%d rows, %d ratios", len(result.Rows), len(result.Ratios))
	}
	for _, row := range result.Rows {
		pinned, least := !strings.HasSuffix(row.Name, "not pinned"), 1.0
		if strings.HasPrefix(row.Name, "first request lost") {
			least = 2
		}
		arp, ns, host := value(t, row, "pod's ARP"), value(t, row, "pod's NS"), value(t, row, "host's questions")
		if row.Latency.N == 0 || pinned && arp+ns != 0 || !pinned && (arp < least || ns < least) {
			t.Errorf("%s: %d pods, %v ARP requests and %v solicitations", row.Name, row.Latency.N, arp, ns)
		}
		if strings.HasSuffix(row.Name, "returnPath") && host != 0 {
			t.Errorf("%s: the host asked %v times", row.Name, host)
		}
	}
}

func TestAGatewayHearsNothingOfPinnedPods(t *testing.T) {
	const crowd, gvisor = 12, 2
	result, err := storm(t.Context(), bench.Env{Short: true, Progress: t.Output()}, crowd, gvisor, 2)
	if err != nil {
		t.Fatal(err)
	}
	result.Print(t.Output())
	for _, row := range result.Rows {
		size, samples := float64(crowd), 2*crowd
		if strings.Contains(row.Name, "gVisor") {
			size, samples = gvisor, gvisor
		}
		arp, ns, own := value(t, row, "pods' ARP"), value(t, row, "pods' NS"), value(t, row, "gateway's questions")
		if pinned := !strings.HasSuffix(row.Name, "not pinned"); row.Latency.N != samples || pinned && arp+ns != 0 || !pinned && (arp < size || ns < size) {
			t.Errorf("%s: %d connections, want %d; %v ARP requests, %v solicitations", row.Name, row.Latency.N, samples, arp, ns)
		}
		if strings.HasSuffix(row.Name, "returnPath") && own != 0 {
			t.Errorf("%s: the gateway asked %v times", row.Name, own)
		}
	}
}

func TestAWorkloadsOutputIsRead(t *testing.T) {
	const output = "2026-11-22T10:00:00.000000001Z stdout F first 198.51.100.1:8081 1500\n2026-11-22T10:00:01.5Z stdout F first [2001:db8::1]:8081 2000000\n"
	took, until, err := parse(output)
	if err != nil || len(took) != 2 || took[0] != 1500*time.Nanosecond || took[1] != 2*time.Millisecond || until.Nanosecond() != 5e8 {
		t.Errorf("%v, until %v: %v", took, until, err)
	}
	for _, bad := range []string{"2026-11-22T10:00:00Z stderr F workload: dial tcp: no route to host\n", "yesterday stdout F first a 1\n", "2026-11-22T10:00:00Z stdout F first a b\n"} {
		if _, _, err := parse(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
