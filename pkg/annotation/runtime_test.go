// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// A runtime moves the pod's link into a namespace of its own, where the neighbor
// table is empty, and applies the annotation there.
func TestARuntimeAppliesTheAnnotationInItsOwnNamespace(t *testing.T) {
	host, pod, own := nstest.New(t), nstest.New(t), nstest.New(t)
	own.Veth("eth0", host, "veth0")
	own.IP("addr add 10.88.0.2/24 dev eth0", "addr add fd00:88::2/64 dev eth0 nodad")
	gateway := annotation.HardwareAddr(host.MAC("veth0"))
	pinned := &annotation.Annotation{
		Cookie:     pod.Cookie(),
		CapturedAt: time.Now(),
		Neighbors: []annotation.Entry{
			{Dst: netip.MustParseAddr("10.88.0.1"), Dev: "eth0", LLAddr: gateway, Source: annotation.SourcePeer},
			{Dst: netip.MustParseAddr("fd00:88::1"), Dev: "eth0", LLAddr: gateway, Source: annotation.SourceExisting},
		},
	}

	t.Run("of another namespace: refused", func(t *testing.T) {
		other := *pinned
		other.Cookie = own.Cookie()
		err := pinFromConfig(t.Context(), writeConfig(t, pod, mustMarshal(t, &other)), own.NS)
		if err == nil || !strings.Contains(err.Error(), "not applying") {
			t.Errorf("error %v, want a refusal", err)
		}
		if got := own.Output("neigh", "show", "nud", "permanent"); got != "" {
			t.Errorf("pinned nevertheless: %s", got)
		}
	})
	t.Run("hostile: refused", func(t *testing.T) {
		err := pinFromConfig(t.Context(), writeConfig(t, pod, strings.Repeat("x", 10<<20)), own.NS)
		if err == nil {
			t.Fatal("10 MB of x were accepted")
		}
		checkErrorText(t, err)
	})
	t.Run("none: nothing to do", func(t *testing.T) {
		if err := pinFromConfig(t.Context(), writeConfig(t, pod, ""), own.NS); err != nil {
			t.Error(err)
		}
	})
	t.Run("of the pod: applied", func(t *testing.T) {
		if err := pinFromConfig(t.Context(), writeConfig(t, pod, mustMarshal(t, pinned)), own.NS); err != nil {
			t.Fatal(err)
		}
		for _, e := range pinned.Neighbors {
			got := own.Output("neigh", "show", "to", e.Dst.String(), "dev", e.Dev)
			if !strings.Contains(got, string(e.LLAddr)) || !strings.Contains(got, annotation.StatePermanent) {
				t.Errorf("%s on %s: %q, want %s %s", e.Dst, e.Dev, got, e.LLAddr, annotation.StatePermanent)
			}
		}
		if got := pod.Output("neigh", "show"); got != "" {
			t.Errorf("the pod's own namespace was changed: %s", got)
		}
	})
}

// What is captured of a pod says the same as its tables, and a runtime can use it.
func TestARuntimeCapturesThePodsGatewaysItself(t *testing.T) {
	host, pod, own := nstest.Own(t), nstest.New(t), nstest.New(t)
	pod.Veth("eth0", host, "veth0")
	pod.IP("addr add 10.88.0.2/24 dev eth0", "addr add fd00:88::2/64 dev eth0 nodad",
		"route add default via 10.88.0.1", "route add default via fe80::1 dev eth0")
	value, err := capture(t.Context(), pod.NS)
	if err != nil {
		t.Fatal(err)
	}
	if got := pod.Output("neigh", "show", "nud", "permanent"); got != "" {
		t.Errorf("capturing has pinned: %s", got)
	}
	pod.IP("link set eth0 netns " + own.Ref())
	own.IP("link set eth0 up", "addr add 10.88.0.2/24 dev eth0", "addr add fd00:88::2/64 dev eth0 nodad")
	if err := pinFromConfig(t.Context(), writeConfig(t, pod, value), own.NS); err != nil {
		t.Fatal(err)
	}
	pinned := own.Output("neigh", "show", "nud", "permanent")
	for _, gateway := range []string{"10.88.0.1", "fe80::1"} {
		if want := gateway + " dev eth0 lladdr " + host.MAC("veth0"); !strings.Contains(pinned, want) {
			t.Errorf("have %q, want %q in it", pinned, want)
		}
	}
}

// A runtime that lets the kernel do the networking keeps its table open and pins
// again what the live file says.
func TestATableThatIsKeptOpenFollowsTheLiveFile(t *testing.T) {
	host, pod, own := nstest.New(t), nstest.New(t), nstest.New(t)
	own.Veth("eth0", host, "veth0")
	own.IP("addr add 10.88.0.2/24 dev eth0")
	table, err := neighbor.Open(own.NS)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for _, lladdr := range []annotation.HardwareAddr{"0a:00:00:00:00:01", "0a:00:00:00:00:02"} {
		value := mustMarshal(t, &annotation.Annotation{Cookie: pod.Cookie(), CapturedAt: time.Now(), Neighbors: []annotation.Entry{
			{Dst: netip.MustParseAddr("10.88.0.1"), Dev: "eth0", LLAddr: lladdr, Source: annotation.SourcePeer}}})
		neighbors, err := neighborsOf(value, pod.NS)
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Pin(t.Context(), neighbors); err != nil {
			t.Fatal(err)
		}
		if got := own.Output("neigh", "show", "nud", "permanent"); !strings.Contains(got, "10.88.0.1 dev eth0 lladdr "+string(lladdr)) {
			t.Errorf("pinned %s, have %q", lladdr, got)
		}
	}
}

// The page for runtime authors shows code that compiles and is tested above.
func TestDocsShowTheExample(t *testing.T) {
	source, err := os.ReadFile("example_runtime_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(source), "\n)\n") // the imports
	code, _, ok := strings.Cut(rest, "// An OCI runtime")
	if !ok {
		t.Fatal("example_runtime_test.go does not end with the example itself")
	}
	page, err := os.ReadFile("../../docs/runtime-authors.md")
	if err != nil {
		t.Fatal(err)
	}
	if block := "```go\n" + strings.TrimSpace(code) + "\n```\n"; !strings.Contains(string(page), block) {
		t.Errorf("docs/runtime-authors.md lacks this block, which is the one that compiles:\n%s", block)
	}
}

// The page's sample is what Marshal writes, apart from its line breaks.
func TestDocsShowAValidSample(t *testing.T) {
	page, err := os.ReadFile("../../docs/annotation.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	sample, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("docs/annotation.md has no sample in JSON")
	}
	if _, err := annotation.Parse(sample); err != nil {
		t.Error(err)
	}
	if err := compileSchema(t).Validate(decode(t, sample)); err != nil {
		t.Error(err)
	}
}

// The page names the limits and the sources that the code has.
func TestDocsAgreeWithTheCode(t *testing.T) {
	page, err := os.ReadFile("../../docs/annotation.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# The annotation `" + annotation.Key + "`",
		fmt.Sprintf("| `version` | `%d` |", annotation.Version),
		fmt.Sprintf("array, at most %d |", annotation.MaxNeighbors),
		fmt.Sprintf("At most %d bytes", annotation.MaxBytes),
		fmt.Sprintf("| `%s` |", annotation.SourcePeer),
		fmt.Sprintf("| `%s` |", annotation.SourcePort),
		fmt.Sprintf("| `%s` |", annotation.SourceHost),
		fmt.Sprintf("| `%s` |", annotation.SourceExisting),
		fmt.Sprintf("| `%s` |", annotation.SourceLearned),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/annotation.md does not say %q", want)
		}
	}
}

func writeConfig(t *testing.T, pod *nstest.NS, value string) string {
	t.Helper()
	config := specs.Spec{
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace, Path: pod.Mount()},
		}},
	}
	if value != "" {
		config.Annotations = map[string]string{annotation.Key: value}
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
