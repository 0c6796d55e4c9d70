// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/spoof"
	"github.com/neighpin/neighpin/internal/nstest"
)

// segmentGateways are the gateways of pods on a segment, and segmentPrefixes the addresses that whoever is the gateway has there.
var (
	segmentGateways = []string{"10.97.0.1", "fd97::1"}
	segmentPrefixes = []string{"10.97.0.1/16", "fd97::1/64"}
	// beyondPrefixes are the addresses that pods reach by way of a gateway.
	beyondPrefixes = []string{"198.51.100.1/32", "2001:db8:97::1/128"}
)

// both says the same of both gateways.
func both[T any](v T) map[string]T {
	return map[string]T{segmentGateways[0]: v, segmentGateways[1]: v}
}

// makeBridge makes the bridge that pods of the segment's datapaths become ports of. It has no MAC of its own: it takes the lowest of
// its ports', as bridges do that nobody gave one.
func makeBridge(t *testing.T, prefixes ...string) {
	t.Helper()
	ip(t, "link", "add", datapath.SegmentLink, "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "delete", datapath.SegmentLink) })
	ip(t, "link", "set", datapath.SegmentLink, "up")
	hold(t, datapath.SegmentLink, prefixes...)
}

// hold gives a link of the node addresses that need not be probed for first.
func hold(t *testing.T, link string, prefixes ...string) {
	t.Helper()
	for _, prefix := range prefixes {
		ip(t, addressArgs("add", link, prefix)...)
	}
}

// release is the opposite of hold.
func release(t *testing.T, link string, prefixes ...string) {
	t.Helper()
	for _, prefix := range prefixes {
		ip(t, "address", "delete", prefix, "dev", link)
	}
}

func addressArgs(verb, link, prefix string) []string {
	args := []string{"address", verb, prefix, "dev", link}
	if strings.Contains(prefix, ":") {
		args = append(args, "nodad")
	}
	return args
}

// station is a host on the segment: a namespace of its own whose eth0 is a port of the bridge.
type station struct {
	*nstest.NS
	port string // the node's end
}

// join makes a station. Its port has to be named.
func join(t *testing.T, port string) station {
	t.Helper()
	s := attach(t, port)
	ip(t, "link", "set", port, "master", datapath.SegmentLink)
	return s
}

// attach makes a namespace with a link to the node, which is up on both ends.
func attach(t *testing.T, name string) station {
	t.Helper()
	s := station{NS: nstest.New(t), port: name}
	ip(t, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", s.Ref())
	// The namespace itself goes when the kernel comes to it, and the next test may want the name.
	t.Cleanup(func() { ip(t, "link", "delete", name) })
	ip(t, "link", "set", name, "up")
	s.IP("link set eth0 up")
	return s
}

func (s station) hold(prefixes ...string) {
	for _, prefix := range prefixes {
		s.IP(strings.Join(addressArgs("add", "eth0", prefix), " "))
	}
}

func (s station) release(prefixes ...string) {
	for _, prefix := range prefixes {
		s.IP("address delete " + prefix + " dev eth0")
	}
}

// route makes the station a router: what pods reach by way of a gateway is on its loopback, and it serves all of its addresses.
func (s station) route(t *testing.T) {
	t.Helper()
	for _, prefix := range beyondPrefixes {
		s.IP(strings.Join(addressArgs("add", "lo", prefix), " "))
	}
	var listener net.Listener
	err := s.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort("::", "8080"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connection.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
}

// mac is the address of the station on the segment.
func (s station) mac() string { return s.MAC("eth0") }

// claimGateways lets the station claim both gateways until the test closes the spoofer, or ends.
func (s station) claimGateways(t *testing.T) *liar {
	t.Helper()
	l := &liar{station: s}
	err := s.Do(func() (err error) {
		l.Spoofer, err = spoof.Start("eth0", node.Gateway4, node.Gateway6)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.stop = sync.OnceFunc(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("the spoofer at %s answered %d questions and announced itself %d times", l.MAC(), l.Answered(), l.Announced())
	})
	t.Cleanup(l.stop)
	return l
}

// liar is a station that claims to be the gateways.
type liar struct {
	station
	*spoof.Spoofer
	stop func()
}

// MAC is the address on the segment that the liar claims everything for.
func (l *liar) MAC() string { return l.Spoofer.MAC() }

// announces waits until the liar has announced itself for longer than the kernel shuts its ears to rumors (locktime, a second).
func (l *liar) announces(t *testing.T) {
	t.Helper()
	const enough = 150 // at a hundred a second
	from := l.Announced()
	err := await.Within(t.Context(), patience, "the spoofer to announce itself", func() error {
		if n := l.Announced() - from; n < enough {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// muteBridge keeps questions for the gateways from the bridge's own stack, so that whoever else claims them is the only one that
// answers.
func muteBridge(t *testing.T) {
	t.Helper()
	const neighborSolicitation = "135" // ICMPv6's number of it
	rules := [][]string{
		{"-p", "ARP", "--arp-opcode", "Request", "--arp-ip-dst", node.Gateway4.String()},
		{"-p", "IPv6", "--ip6-proto", "ipv6-icmp", "--ip6-icmp-type", neighborSolicitation},
	}
	for _, rule := range rules {
		ebtables(t, append(append([]string{"-A", "INPUT"}, rule...), "-j", "DROP")...)
		t.Cleanup(func() { ebtables(t, append(append([]string{"-D", "INPUT"}, rule...), "-j", "DROP")...) })
	}
}

// ebtables is the form over nf_tables, which comes with iptables.
func ebtables(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ebtables-nft", args...).CombinedOutput(); err != nil {
		t.Fatalf("ebtables-nft %v: %v\n%s", args, err, out)
	}
}

// bridgeMAC is the address that the bridge has now.
func bridgeMAC(t *testing.T) string {
	t.Helper()
	link, err := net.InterfaceByName(datapath.SegmentLink)
	if err != nil {
		t.Fatal(err)
	}
	return link.HardwareAddr.String()
}

// kernelEntry is what the kernel's table of the pod has for an address, and in which states; empty if it has nothing.
func (r *rowRun) kernelEntry(t *testing.T, gateway string) (lladdr string, states []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", "-n", filepath.Base(r.pod.NetNS), "-j", "neigh", "show", "to", gateway).Output()
	if err != nil {
		t.Fatalf("show neighbor %s: %v", gateway, err)
	}
	var list []struct {
		LLAddr string   `json:"lladdr"`
		State  []string `json:"state"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("show neighbor %s: %v\n%s", gateway, err, out)
	}
	if len(list) == 0 {
		return "", nil
	}
	return list[0].LLAddr, list[0].State
}
