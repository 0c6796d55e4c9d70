// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// hook runs the hook with a state.
func (b *bed) hook(state string) (code int, stderr string) {
	b.t.Helper()
	var out bytes.Buffer
	code = Hook(Process{Stdin: strings.NewReader(state), Stderr: &out}, b.options)
	return code, out.String()
}

func creating(bundle string, pid int) string {
	return fmt.Sprintf(`{"ociVersion":"1.0.2-dev","id":"abc","status":"creating","pid":%d,"bundle":%q,"annotations":{"a":"b"}}`, pid, bundle)
}

func TestHookPinsByThePathInTheBundle(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	bundle := newBundle(t, ns.Mount(), nil)
	before, _ := readConfig(t, bundle)
	if code, said := b.hook(creating(bundle, os.Getpid())); code != exitOK || said != "" || permanent(ns) != 2 {
		t.Errorf("exit %d, %q, %d entries", code, said, permanent(ns))
	}
	if now, _ := readConfig(t, bundle); now != before {
		t.Error("the bundle was edited")
	}
	if rec, err := b.record("abc"); err != nil || rec.NetNS.Cookie != ns.Cookie() || rec.Annotated {
		t.Errorf("record %+v, %v", rec, err)
	}
	stopped := strings.Replace(creating(bundle, 0), "creating", statusStopped, 1)
	if code, said := b.hook(stopped); code != exitOK || said != "" {
		t.Errorf("poststop: exit %d, %q", code, said)
	}
	if _, err := b.record("abc"); err == nil {
		t.Error("the record outlives the container")
	}
}

// A namespace that the runtime made is reached through the container's process.
func TestHookPinsByTheProcess(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	bundle := writeBundle(t, []byte(`{"linux":{"namespaces":[{"type":"network"}]}}`))
	pid := sleeper(t, ns)
	if code, said := b.hook(creating(bundle, pid)); code != exitOK || said != "" || permanent(ns) != 2 {
		t.Errorf("exit %d, %q, %d entries", code, said, permanent(ns))
	}
	// This process's own is the host's, whoever says that it is a container's.
	if code, said := b.hook(creating(bundle, os.Getpid())); code != exitOK || !strings.Contains(said, "host's own") {
		t.Errorf("exit %d, %q", code, said)
	}
	b.options.Enforce = true
	if code, said := b.hook(creating(bundle, 0)); code != exitError || !strings.Contains(said, "no process") {
		t.Errorf("exit %d, %q", code, said)
	}
}

// In a namespace made inside a pod nothing on this side tells the gateway's
// address; what the pod was given does.
func TestHookAppliesTheAnnotationWhereTheHostKnowsNothing(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	b.options.Enforce = true
	entry := func(dst, source string) annotation.Entry {
		return annotation.Entry{Dst: addr(t, dst), Dev: "eth0", LLAddr: "02:00:00:00:00:01", Source: annotation.Source(source)}
	}
	a := annotation.Annotation{Cookie: 4711, CapturedAt: time.Now().UTC(), Neighbors: []annotation.Entry{
		entry("10.88.0.1", "existing"), entry("10.88.0.77", "peer"),
	}}
	value, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	bundle := newBundle(t, ns.Mount(), map[string]string{annotation.Key: value})
	if code, said := b.hook(creating(bundle, 0)); code != exitOK || said != "" {
		t.Fatalf("exit %d, %q", code, said)
	}
	shown := ns.Output("neigh", "show")
	if !strings.Contains(shown, "10.88.0.1 dev eth0 lladdr 02:00:00:00:00:01 PERMANENT") || permanent(ns) != 1 {
		t.Errorf("the gateway and nothing else was to be pinned:\n%s", shown)
	}
	if rec, err := b.record("abc"); err != nil || len(rec.Owned()) != 1 || rec.Neighbors[0].Family != neighbor.FamilyInet {
		t.Errorf("record %+v, %v", rec, err)
	}
	// What the host knows is not up for discussion.
	known, outside := newPod(t)
	forged := newBundle(t, known.Mount(), map[string]string{annotation.Key: value})
	if code, said := b.hook(strings.Replace(creating(forged, 0), "abc", "def", 1)); code != exitOK || said != "" {
		t.Errorf("exit %d, %q", code, said)
	}
	if shown := known.Output("neigh", "show", "10.88.0.1"); !strings.Contains(shown, outside.MAC("veth0")) {
		t.Errorf("the annotation went over the truth: %s", shown)
	}
	// Where pods write annotations, anybody may have written this one.
	for _, kind := range []string{containerdType, crioType} {
		pods := newSegment(t)
		bundle := newBundle(t, pods.Mount(), map[string]string{annotation.Key: value, kind: "sandbox"})
		if code, said := b.hook(strings.Replace(creating(bundle, 0), "abc", "ghi", 1)); code != exitError || permanent(pods) != 0 {
			t.Errorf("%s: exit %d, %q, %d entries", kind, code, said, permanent(pods))
		}
	}
	broken := newBundle(t, newSegment(t).Mount(), map[string]string{annotation.Key: "{"})
	if code, said := b.hook(creating(broken, 0)); code != exitError || !strings.Contains(said, "annotation is not used") {
		t.Errorf("exit %d, %q", code, said)
	}
}

// It cannot add a gateway, nor speak against what is known here.
func TestWhichGatewaysTheAnnotationMayAnswerFor(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  func(ns *nstest.NS)
		then string // what happens once the first container is there
		dev  string
		want string
		says string
	}{
		"both ends are in the pod": {pod: func(ns *nstest.NS) {
			ns.IP("link add eth0 type veth peer name peer0", "link set eth0 up", "link set peer0 up",
				"address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1")
		}, dev: "eth0", want: "10.88.0.1 dev eth0 lladdr 02:00:00:00:00:01 PERMANENT"},
		"beyond a link that came while programs ran": {pod: func(ns *nstest.NS) {
			ns.Veth("eth0", nstest.New(t), "far")
			ns.IP("address add 10.88.0.2/24 dev eth0")
		}, then: "route add default via 10.88.0.1", dev: "eth0", want: "10.88.0.1 dev eth0 lladdr 02:00:00:00:00:01 PERMANENT"},
		"on another link": {pod: segment(t), dev: "eth1"},
		"a program has put an entry there": {
			pod: segment(t), then: "neigh replace 10.88.0.1 dev eth0 lladdr 02:00:00:00:66:66 nud permanent",
			dev: "eth0", want: "10.88.0.1 dev eth0 lladdr 02:00:00:00:66:66 PERMANENT", says: "Unowned",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := nstest.New(t)
			tc.pod(ns)
			b := newBed(t)
			path := ns.Mount()
			if tc.then != "" {
				b.hook(strings.Replace(creating(newBundle(t, path, nil), 0), "abc", "first", 1))
				ns.IP(tc.then)
			}
			a := annotation.Annotation{Cookie: 1, CapturedAt: time.Now(), Neighbors: []annotation.Entry{
				{Dst: addr(t, "10.88.0.1"), Dev: tc.dev, LLAddr: "02:00:00:00:00:01", Source: "peer"},
			}}
			value, err := a.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, said := b.hook(creating(newBundle(t, path, map[string]string{annotation.Key: value}), 0))
			if shown := ns.Output("neigh", "show", "nud", "permanent"); (shown == "") != (tc.want == "") || !strings.HasPrefix(shown, tc.want) || !strings.Contains(said, tc.says) {
				t.Errorf("%q, want %q; said %q", shown, tc.want, said)
			}
		})
	}
}

func TestHookOfAContainerThatIsLeftAlone(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.Enforce, b.options.ExcludeNamespaces = true, []string{"kube-*"}
	for name, bundle := range map[string]string{
		"on the host's network":    newBundle(t, "", nil),
		"of an excluded namespace": newBundle(t, ns.Mount(), map[string]string{containerdType: "sandbox", podNamespace: "kube-system"}),
	} {
		if code, said := b.hook(creating(bundle, 0)); code != exitOK || said != "" || permanent(ns) != 0 {
			t.Errorf("%s: exit %d, %q, %d entries", name, code, said, permanent(ns))
		}
	}
	two := writeBundle(t, fmt.Appendf(nil, `{"linux":{"namespaces":[{"type":"network","path":%q},{"type":"network"}]}}`, ns.Mount()))
	if code, said := b.hook(creating(two, 0)); code != exitError || !strings.Contains(said, errTwoNetworks.Error()) || permanent(ns) != 0 {
		t.Errorf("two networks: exit %d, %q, %d entries", code, said, permanent(ns))
	}
}

func TestHookOfAContainerThatJoins(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	path := ns.Mount()
	state := func(id string) string {
		bundle := newBundle(t, path, map[string]string{crioType: typeContainer, crioSandbox: "abc"})
		return strings.Replace(creating(bundle, 0), "abc", id, 1)
	}
	b.hook(state("abc"))
	if permanent(ns) != 2 {
		t.Fatalf("%d entries", permanent(ns))
	}
	ns.IP("neigh flush all nud permanent")
	if code, said := b.hook(state("def")); code != exitOK || said != "" || permanent(ns) != 0 {
		t.Errorf("exit %d, %q, %d entries: pinned again in the middle of a pod's life", code, said, permanent(ns))
	}
}

func TestHookThatIsGivenNoState(t *testing.T) {
	for _, device := range []string{os.DevNull, "/dev/zero"} { // the latter, as a terminal, does not end
		in, err := os.Open(device)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := Hook(Process{Stdin: in, Stderr: &out}, newBed(t).options); code != exitUsage || !strings.Contains(out.String(), "called by an OCI runtime") {
			t.Errorf("by hand, %s: exit %d, %q", device, code, out.String())
		}
		_ = in.Close()
	}
	for name, tc := range map[string]struct{ state, says string }{
		"nothing":         {"", "no state"},
		"white space":     {" \n", "no state"},
		"not JSON":        {"hello", "parse state"},
		"two states":      {creating("/b", 1) + creating("/b", 1), "parse state"},
		"another version": {strings.Replace(creating("/b", 1), "1.0.2-dev", "2.0.0", 1), `version "2.0.0"`},
		"no version":      {`{"id":"abc","bundle":"/b"}`, `version ""`},
		"no id":           {`{"ociVersion":"1.0.2","bundle":"/b"}`, "no id"},
		"relative bundle": {creating("b", 1), "no absolute path"},
		"huge":            {strings.Repeat(" ", maxState) + creating("/b", 1), "more than"},
		"no bundle there": {creating(filepath.Join(t.TempDir(), "none"), 1), "read bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			code, said := b.hook(tc.state)
			want := exitOK // the container is not to blame
			if strings.TrimSpace(tc.state) == "" {
				want = exitUsage
			}
			if code != want || !strings.Contains(said, tc.says) {
				t.Errorf("exit %d, %q, want %d and %q", code, said, want, tc.says)
			}
			b.options.Enforce = true
			if code, _ := b.hook(tc.state); code == exitOK {
				t.Error("enforced: exit 0")
			}
		})
	}
}

// Whatever is accepted names a version, a container and an absolute path.
func FuzzState(f *testing.F) {
	f.Add(creating("/b", 1))
	f.Add(`{"ociVersion":"1.2.0","id":"x","status":"stopped","bundle":"/"}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := readState(strings.NewReader(text))
		if err != nil {
			return
		}
		if !json.Valid([]byte(text)) || s.ID == "" || !filepath.IsAbs(s.Bundle) || !strings.HasPrefix(s.Version, "1") {
			t.Fatalf("%q was read as %+v", text, s)
		}
		if path, err := s.namespace(); err == nil && !strings.HasPrefix(path, "/proc/") {
			t.Fatalf("namespace %q", path)
		}
	})
}

// sleeper is the id of a process in the namespace that ends with the test.
func sleeper(t *testing.T, ns *nstest.NS) int {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func addr(t *testing.T, text string) netip.Addr {
	t.Helper()
	ip, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return ip
}
