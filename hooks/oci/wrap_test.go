// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestCreatePinsAnnotatesAndHandsOver(t *testing.T) {
	for _, command := range []string{cmdCreate, cmdRun} {
		t.Run(command, func(t *testing.T) {
			ns, outside := newPod(t)
			b := newBed(t)
			bundle := newBundle(t, ns.Mount(), map[string]string{
				"org.example": "kept", podName: "web", podNamespace: "shop", podUID: "u", podHandler: "gvisor", annotation.Key: "forged",
			})
			got := b.begin(command, bundle, "abc")
			want := []string{got.path, "--root", "/nonexistent", "--log", b.log, "--log-format", "json", command, "--bundle", bundle, "abc"}
			if filepath.Base(got.path) != "runx" || !slices.Equal(got.argv, want) {
				t.Errorf("executed %q with %q", got.path, got.argv)
			}
			if permanent(ns) != 2 {
				t.Errorf("%d permanent entries, want 2", permanent(ns))
			}
			_, annotations := readConfig(t, bundle)
			a, err := annotation.Parse(annotations[annotation.Key])
			if err != nil || a.Cookie != ns.Cookie() || len(a.Neighbors) != 2 || string(a.Neighbors[0].LLAddr) != outside.MAC("veth0") {
				t.Errorf("annotation %+v, %v", a, err)
			}
			if annotations["org.example"] != "kept" {
				t.Errorf("other annotations: %v", annotations)
			}
			rec, err := b.record("abc")
			if rec.Phase != record.Started || rec.NetNS.Path == "" || rec.CapturedAt.IsZero() || rec.Timing.PinnedAt.IsZero() {
				t.Errorf("record %+v", rec)
			}
			if err != nil || rec.NetNS.Cookie != ns.Cookie() || len(rec.Owned()) != 2 || !rec.Annotated || rec.Timing.Verdict != record.Unproven ||
				rec.Name != "web" || rec.Namespace != "shop" || rec.UID != "u" || rec.Handler != "gvisor" {
				t.Errorf("record %+v, %v", rec, err)
			}
			if said := b.messages(); len(said) != 0 {
				t.Errorf("said %v", said)
			}
			if got := b.wrap("delete", "--force", "abc"); !ran(got) {
				t.Errorf("delete: %+v", got)
			}
			if _, err := b.record("abc"); !os.IsNotExist(err) && err == nil {
				t.Error("the record outlives the container")
			}
		})
	}
}

func TestABundleThatSaysTheSameIsNotTouched(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	bundle := newBundle(t, ns.Mount(), nil)
	b.begin(cmdCreate, bundle, "abc")
	first, _ := readConfig(t, bundle)
	before, err := os.Stat(filepath.Join(bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	b.begin(cmdCreate, bundle, "abc")
	second, _ := readConfig(t, bundle)
	after, err := os.Stat(filepath.Join(bundle, "config.json"))
	if err != nil || first != second || !os.SameFile(before, after) {
		t.Errorf("written again, %v", err)
	}
	b.options.Annotate = false
	plain := newBundle(t, ns.Mount(), nil)
	untouched, _ := readConfig(t, plain)
	b.begin(cmdCreate, plain, "def")
	if now, annotations := readConfig(t, plain); now != untouched || annotations[annotation.Key] != "" {
		t.Error("annotated although that is switched off")
	}
}

// As one that was copied from another container's.
func TestAnAnnotationThatSaysSomethingElseIsReplaced(t *testing.T) {
	ns, outside := newPod(t)
	bundle := newBundle(t, ns.Mount(), map[string]string{
		annotation.Key: `{"version":1,"cookie":1,"capturedAt":"2026-01-02T03:04:05Z","neighbors":[]}`,
	})
	newBed(t).begin(cmdCreate, bundle, "abc")
	_, annotations := readConfig(t, bundle)
	a, err := annotation.Parse(annotations[annotation.Key])
	if err != nil || len(a.Neighbors) != 2 || string(a.Neighbors[0].LLAddr) != outside.MAC("veth0") {
		t.Errorf("annotation %+v, %v", a, err)
	}
}

func TestOtherCommandsPassThrough(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	bundle := newBundle(t, ns.Mount(), nil)
	before, _ := readConfig(t, bundle)
	for _, args := range [][]string{
		{}, {"--version"}, {"state", "abc"}, {"kill", "--all", "abc", "9"}, {"exec", "--process", "/p", "abc", "create", "--bundle", bundle},
		{"start", "--bundle", bundle, "abc"}, {"", "", "create"}, {"frobnicate", "--bundle", bundle, "create"}, {"delete"}, {"delete", "../x"},
	} {
		got := b.wrap(args...)
		if !ran(got) || !slices.Equal(got.argv[1:], args) || got.said != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if now, _ := readConfig(t, bundle); permanent(ns) != 0 || now != before || len(b.messages()) != 0 {
		t.Errorf("%d entries, said %v", permanent(ns), b.messages())
	}
	if _, err := os.Stat(b.options.StateDir); !os.IsNotExist(err) {
		t.Errorf("the state directory was made: %v", err)
	}
}

func TestContainersOfOtherNetworksAreLeftAlone(t *testing.T) {
	for name, namespaces := range map[string]string{
		"the host's":             `[{"type":"pid"}]`,
		"one that is made later": `[{"type":"network"}]`,
		"no section":             `null`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.options.Enforce = true
			config := `{"linux":{"namespaces":` + namespaces + `}}`
			bundle := writeBundle(t, []byte(config))
			if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || len(b.messages()) != 0 {
				t.Errorf("%+v, said %v", got, b.messages())
			}
			if now, _ := readConfig(t, bundle); now != config {
				t.Errorf("the bundle became %s", now)
			}
		})
	}
}

// The host's own namespace is known by its cookie, however it is reached, and
// has no neighbor of ours afterwards.
func TestTheHostsNamespaceIsRefused(t *testing.T) {
	link := filepath.Join(t.TempDir(), "cni-1")
	if err := os.Symlink("/proc/thread-self/ns/net", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/proc/self/ns/net", link} {
		b := newBed(t)
		bundle := newBundle(t, path, nil)
		before, _ := readConfig(t, bundle)
		got := b.begin(cmdCreate, bundle, "abc")
		if now, _ := readConfig(t, bundle); !ran(got) || now != before || !strings.Contains(b.messages()[levelWarning], "host's own") {
			t.Errorf("%s: %+v, said %v", path, got, b.messages())
		}
		if _, err := b.record("abc"); err == nil {
			t.Errorf("%s: recorded", path)
		}
	}
}

// badBundles are those of which nothing can be learned.
func badBundles(t *testing.T) map[string]string {
	t.Helper()
	huge := t.TempDir()
	f, err := os.Create(filepath.Join(huge, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(maxConfig + 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "config.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(pipe, "config.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	loop := t.TempDir()
	if err := os.Symlink("config.json", filepath.Join(loop, "config.json")); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"no bundle": filepath.Join(t.TempDir(), "none"), "missing": t.TempDir(), "huge": huge, "a folder": folder, "a FIFO": pipe, "a loop": loop,
		"empty": writeBundle(t, nil), "not JSON": writeBundle(t, []byte("{hello")), "a list": writeBundle(t, []byte("[]")),
		"annotations of another type": writeBundle(t, []byte(`{"annotations":{"a":1}}`)),
		"two networks":                writeBundle(t, []byte(`{"linux":{"namespaces":[{"type":"network"},{"type":"network"}]}}`)),
		"no such namespace":           newBundle(t, filepath.Join(t.TempDir(), "none"), nil),
		"no namespace there":          newBundle(t, filepath.Join(writeBundle(t, nil), "config.json"), nil),
	}
}

func TestABundleThatCannotBeReadStopsNobodyUnlessEnforced(t *testing.T) {
	why := map[string]string{"huge": "more than", "a folder": "not a regular file", "a FIFO": "not a regular file"}
	for name, bundle := range badBundles(t) {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{cmdCreate, cmdRestore} {
				b := newBed(t)
				said := func(level string) string { return b.messages()[level] }
				if got := b.begin(command, bundle, "abc"); !ran(got) || said(levelWarning) == "" || !strings.Contains(said(levelWarning), why[name]) || said(levelError) != "" {
					t.Errorf("%s: %+v, said %v", command, got, b.messages())
				}
				b.options.Enforce = true
				if got := b.begin(command, bundle, "abc"); ran(got) || got.code != exitError || said(levelError) == "" || got.stderr == "" {
					t.Errorf("%s, enforced: %+v, said %v", command, got, b.messages())
				}
			}
		})
	}
}

func TestNoTruthIsToldAndRefusedOnlyWhenEnforced(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	bundle := newBundle(t, ns.Mount(), map[string]string{podName: "web", podNamespace: "shop"})
	if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || !strings.Contains(b.messages()[levelWarning], "10.88.0.1 on eth0") || b.messages()[levelError] != "" {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	// That there is nothing to pin is the truth, too.
	if _, annotations := readConfig(t, bundle); annotations[annotation.Key] == "" {
		t.Error("no annotation")
	}
	b.options.Enforce = true
	fresh := newBundle(t, ns.Mount(), map[string]string{podName: "web", podNamespace: "shop"})
	before, _ := readConfig(t, fresh)
	got := b.begin(cmdCreate, fresh, "def")
	for _, part := range []string{"pod shop/web", "10.88.0.1", "eth0", "UnsupportedLink"} {
		if ran(got) || got.code != exitError || !strings.Contains(b.messages()[levelError], part) || !strings.Contains(got.stderr, part) {
			t.Errorf("enforced: %+v, said %v, want %q", got, b.messages(), part)
		}
	}
	if now, _ := readConfig(t, fresh); now != before {
		t.Error("the bundle of a refused container was edited")
	}
}

func TestEnforceLetsPassWhatHasNothingToPin(t *testing.T) {
	ns, _ := newPod(t)
	ns.IP("route del default via 10.88.0.1", "route del default via fd00:88::1")
	b := newBed(t)
	b.options.Enforce = true
	if got := b.begin(cmdCreate, newBundle(t, ns.Mount(), nil), "abc"); !ran(got) {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	if rec, err := b.record("abc"); err != nil || rec.Timing.Verdict != record.Nothing {
		t.Errorf("record %+v, %v", rec, err)
	}
	// A gateway that nobody asks for is none to refuse for.
	quiet, _ := newPod(t)
	quiet.IP("link set eth0 arp off")
	if got := b.begin(cmdCreate, newBundle(t, quiet.Mount(), nil), "def"); !ran(got) {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	if rec, err := b.record("def"); err != nil || len(rec.Skipped) == 0 {
		t.Errorf("record %+v, %v", rec, err)
	}
}

func TestMessagesGoToStandardErrorWithoutALog(t *testing.T) {
	b := newBed(t)
	b.options.Enforce = true
	bundle := filepath.Join(t.TempDir(), "none")
	if got := b.wrap("create", "--bundle", bundle, "abc"); ran(got) || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, bundle) {
		t.Errorf("%+v", got)
	}
	log := filepath.Join(t.TempDir(), "log")
	if got := b.wrap("--log", log, "create", "--bundle", bundle, "a\"b"); ran(got) {
		t.Errorf("%+v", got)
	}
	data, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(data), "level=error msg=\"neighpin: ") || strings.Count(string(data), "\n") != 1 {
		t.Errorf("log in text: %q, %v", data, err)
	}
	if got := b.wrap("--log", filepath.Join(log, "x"), "create", "--bundle", bundle, "abc"); ran(got) || !strings.Contains(got.stderr, bundle) {
		t.Errorf("a log that cannot be written: %+v", got)
	}
}

// The wrapper's list is its own, and goes by what the engine says of a pod, not the pod.
func TestPodsOfAnExcludedNamespaceAreLeftAlone(t *testing.T) {
	containerd := map[string]string{containerdType: "sandbox", podNamespace: "kube-system"}
	crio := map[string]string{crioType: "sandbox", crioNamespace: "kube-system"}
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        int
	}{
		"containerd":                {containerd, 0},
		"CRI-O":                     {crio, 0},
		"of another namespace":      {map[string]string{containerdType: "sandbox", podNamespace: "shop"}, 2},
		"of an engine without pods": {map[string]string{podNamespace: "kube-system"}, 2},
		"of CRI-O, by the pod's own word": {map[string]string{
			crioType: "sandbox", crioNamespace: "shop", podNamespace: "kube-system"}, 2},
		"of both engines": {map[string]string{
			crioType: "sandbox", crioNamespace: "shop", containerdType: "sandbox", podNamespace: "kube-system"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			ns, _ := newPod(t)
			b := newBed(t)
			b.options.Enforce, b.options.ExcludeNamespaces = true, []string{"monitoring", "kube-*"}
			bundle := newBundle(t, ns.Mount(), tc.annotations)
			before, _ := readConfig(t, bundle)
			if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || permanent(ns) != tc.want {
				t.Errorf("%+v with %d pins, want %d; said %v", got, permanent(ns), tc.want, b.messages())
			}
			if now, _ := readConfig(t, bundle); (now == before) != (tc.want == 0) {
				t.Errorf("the bundle became %s", now)
			}
		})
	}
}

func TestNobodysPodIsOfNoExcludedNamespace(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.ExcludeNamespaces = []string{"*"}
	if got := b.begin(cmdCreate, newBundle(t, ns.Mount(), nil), "abc"); !ran(got) || permanent(ns) != 2 {
		t.Errorf("%+v with %d pins", got, permanent(ns))
	}
}

// Left alone means that nothing is refused either.
func TestAnExcludedPodWithoutATruthIsNotRefused(t *testing.T) {
	b := newBed(t)
	b.options.Enforce, b.options.ExcludeNamespaces = true, []string{"shop"}
	bundle := newBundle(t, newSegment(t).Mount(), map[string]string{containerdType: "sandbox", podNamespace: "shop"})
	if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || len(b.messages()) != 0 {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	b.options.ExcludeNamespaces = nil
	if got := b.begin(cmdCreate, bundle, "abc"); ran(got) {
		t.Error("it runs without its pins when it is not excluded")
	}
}

// Where there is no log the words go to whoever called, most likely on a terminal.
func TestNoNameInAMessageReachesTheTerminalAsACommand(t *testing.T) {
	var out strings.Builder
	say := teller{stderr: &out}
	say.warn("link %s is odd", "e\x1b[2J\u202e")
	say.refuse(errors.New("link e\x1b[2J\nis odd"))
	if !strings.HasSuffix(out.String(), "; is odd\n") {
		t.Errorf("%q: two lines of an error are to be told apart", out.String())
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if strings.ContainsAny(line, "\x1b\u202e") || !strings.HasPrefix(line, "neighpin: link e") {
			t.Errorf("%q", line)
		}
	}
}
