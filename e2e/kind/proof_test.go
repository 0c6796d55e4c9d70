// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/wire"
)

const (
	annotationKey = "io.neighpin.neighbors"

	// copied is what gVisor says, before address and MAC, of each permanent entry that it takes over.
	copied = "Copying a static ARP entry:"
)

// hostEnd is the node's end of a pod's link.
type hostEnd struct {
	link, mac string
	// gateways are its addresses, sorted: CNI's ptp plugin gives it the first of each range, and the pod routes to them.
	gateways []string
}

// hostEnd asks the node for it by way of its route to the pod.
func (b *bed) hostEnd(t *testing.T, p pod) hostEnd {
	t.Helper()
	var links []struct {
		Name    string `json:"ifname"`
		MAC     string `json:"address"`
		Address []struct {
			Local string `json:"local"`
			Scope string `json:"scope"`
		} `json:"addr_info"`
	}
	decode(t, b.onNode(t, p.Spec.NodeName, fmt.Sprintf(
		`ip -json address show dev "$(ip -oneline route get %s | sed 's/.* dev \([^ ]*\).*/\1/')"`, p.Status.PodIPs[0].IP)), &links)
	end := hostEnd{link: links[0].Name, mac: links[0].MAC}
	for _, address := range links[0].Address {
		if address.Scope == "global" {
			end.gateways = append(end.gateways, address.Local)
		}
	}
	slices.Sort(end.gateways)
	if len(end.gateways) != 2 {
		t.Fatalf("%s: the node's end %s has the addresses %v, want one of each family", p, end.link, end.gateways)
	}
	return end
}

// provePinned proves that a sandboxed pod is pinned in time and reaches its gateways: by neighpin's record, and where nodes
// are at hand by what others say.
func (b *bed) provePinned(t *testing.T, p pod) sandbox {
	t.Helper()
	record := b.settled(t, p)
	if record.Timing.Verdict != "inTime" {
		t.Errorf("%s: verdict %q, want inTime: %+v", p, record.Timing.Verdict, record)
	}
	if got, want := len(record.Neighbors), len(p.Status.PodIPs); got < want {
		t.Errorf("%s has addresses of %d families and %d gateways pinned: %+v", p, want, got, record.Neighbors)
	}
	if b.own == nil {
		b.knock(t, p, record.gateways()...)
	} else {
		b.proveByOthers(t, p, record)
	}
	return record
}

// proveByOthers compares neighpin's record with the node's own word on the link, gVisor's log and the OCI configuration of
// its container, and listens while the pod connects.
func (b *bed) proveByOthers(t *testing.T, p pod, record sandbox) {
	t.Helper()
	end := b.hostEnd(t, p)
	checkNeighbors(t, p, end, record)
	b.checkCopied(t, p, record.ID, end)
	b.checkAnnotation(t, p, end)
	b.checkSilent(t, p, end)
}

// checkNeighbors compares pins with the other end of the pod's link.
func checkNeighbors(t *testing.T, p pod, end hostEnd, record sandbox) {
	t.Helper()
	if got := record.gateways(); !slices.Equal(got, end.gateways) {
		t.Errorf("%s: pinned are the gateways %v, want %v", p, got, end.gateways)
	}
	for _, n := range record.Neighbors {
		if n.LLAddr != end.mac || n.Dev != "eth0" || n.Source != "peer" {
			t.Errorf("%s: gateway %s is pinned to %s on %s (%s), want %s of %s on eth0 (peer)", p, n.Dst, n.LLAddr, n.Dev, n.Source, end.mac, end.link)
		}
	}
}

// checkCopied looks into the log of the sandbox: what gVisor says it took over is in its own network stack.
func (b *bed) checkCopied(t *testing.T, p pod, id string, end hostEnd) {
	t.Helper()
	log := filepath.Join("/var/log/runsc", id, "start.log")
	said := b.onNode(t, p.Spec.NodeName, "grep -F '"+copied+"' "+log+" || true")
	for _, gateway := range end.gateways {
		if want := fmt.Sprintf("%s %s %s", copied, gateway, end.mac); !strings.Contains(said, want) {
			t.Errorf("%s: gateway %s: gVisor's log %s lacks %q; of copies it says %q", p, gateway, log, want, said)
		}
	}
}

// ociAnnotations are those of the configuration that the pod's container runs with.
func (b *bed) ociAnnotations(t *testing.T, p pod) map[string]string {
	t.Helper()
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	decode(t, b.onNode(t, p.Spec.NodeName, "cat "+filepath.Join("/run/containerd/io.containerd.runtime.v2.task/k8s.io", p.containerID(), "config.json")), &spec)
	return spec.Annotations
}

// checkAnnotation compares the annotation in the container's OCI configuration with the other end of the link.
func (b *bed) checkAnnotation(t *testing.T, p pod, end hostEnd) {
	t.Helper()
	text, ok := b.ociAnnotations(t, p)[annotationKey]
	if !ok {
		t.Errorf("%s: its container's OCI configuration lacks the annotation %s", p, annotationKey)
		return
	}
	var annotation struct {
		Version   int        `json:"version"`
		Cookie    uint64     `json:"cookie"`
		Neighbors []neighbor `json:"neighbors"`
	}
	decode(t, text, &annotation)
	if annotation.Version != 1 || annotation.Cookie == 0 || len(annotation.Neighbors) != len(end.gateways) {
		t.Errorf("%s: annotation %s, want version 1, a cookie and the gateways %v", p, text, end.gateways)
	}
	for _, n := range annotation.Neighbors {
		if !slices.Contains(end.gateways, n.Dst) || n.LLAddr != end.mac || n.Dev != "eth0" || n.Source != "peer" || !slices.Equal(n.State, []string{"PERMANENT"}) {
			t.Errorf("%s: annotation has %+v, want one of %v, permanent, with %s of %s", p, n, end.gateways, end.mac, end.link)
		}
	}
}

// listen records on a node; a record with losses fails the test.
func (b *bed) listen(t *testing.T, node string) *wire.Capture {
	t.Helper()
	capture, err := b.own.Listen(b.ctx, node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := capture.Close(); err != nil {
			t.Error(err)
		}
	})
	return capture
}

// addresses parses them.
func addresses(t *testing.T, texts []string) []netip.Addr {
	t.Helper()
	var parsed []netip.Addr
	for _, text := range texts {
		address, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, address)
	}
	return parsed
}

// checkSilent has the pod connect to its gateways, for which it must not ask.
func (b *bed) checkSilent(t *testing.T, p pod, end hostEnd) {
	t.Helper()
	capture := b.listen(t, p.Spec.NodeName)
	b.knock(t, p, end.gateways...)
	if asked := capture.Messages(wire.Asks(end.link, time.Time{}, addresses(t, end.gateways)...)); len(asked) > 0 {
		t.Errorf("%s asks on %s for gateways that are pinned:\n%s", p, end.link, wire.Format(asked))
	}
}

// checkHeard has the pod connect to its gateways, and hears it ask for each: what the silence of others is worth.
func (b *bed) checkHeard(t *testing.T, p pod) {
	t.Helper()
	end := b.hostEnd(t, p)
	capture := b.listen(t, p.Spec.NodeName)
	b.knock(t, p, end.gateways...)
	for _, gateway := range addresses(t, end.gateways) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		if _, err := capture.Await(ctx, wire.Asks(end.link, time.Time{}, gateway), 1); err != nil {
			t.Errorf("%s was not heard on %s asking for gateway %s, although it is not pinned: %v", p, end.link, gateway, err)
		}
		cancel()
	}
}

// permanent are the permanent entries in the namespace of a pod whose container is a process of the node's kernel.
func (b *bed) permanent(t *testing.T, p pod) string {
	t.Helper()
	return b.onNode(t, p.Spec.NodeName, fmt.Sprintf(
		`pid=$(ctr --namespace k8s.io task ls 2>/dev/null | awk '$1 == "%s" { print $2 }'); nsenter --target "$pid" --net ip neigh show nud permanent`, p.containerID()))
}

// started lists the gVisor sandboxes that a node's logs tell of, with the number of entries that each copied.
func (b *bed) started(node string) (map[string]int, error) {
	// Logs of containers in a sandbox set up no network.
	output, err := b.own.Node(b.ctx, node, nil, "sh", "-c",
		`cd /var/log/runsc 2>/dev/null && for log in $(grep -lF 'Setting up network' */start.log); do echo "${log%/*} $(grep -cF '`+copied+`' "$log")"; done; true`)
	if err != nil {
		return nil, err
	}
	copies := map[string]int{}
	for line := range strings.Lines(output) {
		var id string
		var n int
		if _, err := fmt.Sscanf(line, "%s %d", &id, &n); err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
		copies[id] = n
	}
	return copies, nil
}

// exceptUnpinned notes the sandboxes that exist: they have started, or will have, while neighpin was away on purpose.
func (b *bed) exceptUnpinned(t *testing.T) {
	t.Helper()
	for _, node := range b.nodes {
		copies, err := b.started(node)
		if err != nil {
			t.Fatal(err)
		}
		for id, n := range copies {
			if n == 0 {
				b.unpinned[node] = append(b.unpinned[node], id)
			}
		}
	}
}

// allPinned looks at every gVisor sandbox that has started on any node, also those that are gone, and returns how many
// there are besides those that exceptUnpinned knows.
func (b *bed) allPinned() (count int, err error) {
	var errs []error
	for _, node := range b.nodes {
		copies, err := b.started(node)
		if err != nil {
			return 0, err
		}
		for id, n := range copies {
			if slices.Contains(b.unpinned[node], id) {
				continue
			}
			count++
			if n != 2 {
				errs = append(errs, fmt.Errorf("node %s: sandbox %s started with %d gateways, want 2; see /var/log/runsc/%s/start.log", node, id, n, id))
			}
		}
	}
	return count, errors.Join(errs...)
}
