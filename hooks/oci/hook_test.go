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
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var out bytes.Buffer
	if code := Hook(Process{Stdin: null, Stderr: &out}, newBed(t).options); code != exitUsage || !strings.Contains(out.String(), "called by an OCI runtime") {
		t.Errorf("by hand: exit %d, %q", code, out.String())
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
