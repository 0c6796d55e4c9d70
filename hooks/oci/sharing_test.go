// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// The wrapper and the hook serve one container, and a gateway has come in between.
func TestAHookAddsToTheWrappersRecord(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.MaxNeighbors = 3
	bundle := newBundle(t, ns.Mount(), nil)
	b.begin(cmdCreate, bundle, "abc")
	before, err := b.record("abc")
	if err != nil {
		t.Fatal(err)
	}
	ns.IP("route add 10.97.0.0/16 via 10.88.0.7", "route add 10.98.0.0/16 via 10.88.0.8")
	b.hook(creating(bundle, 0))
	rec, err := b.record("abc")
	if err != nil || len(rec.Owned()) != 3 || !rec.Annotated || !rec.CapturedAt.After(before.CapturedAt) ||
		len(rec.Skipped) != 1 || rec.Skipped[0].Reason != neighbor.ReasonLimitReached {
		t.Errorf("record %+v, %v", rec, err)
	}
}

// A sandbox whose pins stand has them when its runtime has taken the rest.
func TestAContainerIsAdmittedWhereARuntimeHasTakenThePinnedAddresses(t *testing.T) {
	ns, _ := newPod(t)
	b := newBed(t)
	b.options.Enforce = true
	path := ns.Mount()
	b.begin(cmdCreate, newBundle(t, path, nil), "abc")
	ns.IP("address flush dev eth0")
	bundle := newBundle(t, path, nil)
	if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || !strings.Contains(b.messages()[levelWarning], "a runtime has taken") {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	_, annotations := readConfig(t, bundle)
	if a, err := annotation.Parse(annotations[annotation.Key]); err != nil || len(a.Neighbors) != 2 {
		t.Errorf("annotation %+v, %v", a, err)
	}
}

// That it is neighpin's only the record made by hand tells; so it goes when nothing
// speaks for it any more, where somebody else's entry would stay and be handed on.
func TestWhatWasPinnedByHandIsKnownForNeighpins(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	path := ns.Mount()
	a := annotation.Annotation{Cookie: 1, CapturedAt: time.Now(), Neighbors: []annotation.Entry{
		{Dst: addr(t, "10.88.0.1"), Dev: "eth0", LLAddr: "02:00:00:00:00:01", Source: "peer"},
	}}
	value, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.hook(strings.Replace(creating(newBundle(t, path, map[string]string{annotation.Key: value}), 0), "abc", "-", 1))
	if rec, err := b.record(record.ByHandID(ns.Cookie())); err != nil || len(rec.Owned()) != 1 {
		t.Fatalf("record %+v, %v", rec, err)
	}
	b.begin(cmdCreate, newBundle(t, path, map[string]string{containerdType: "sandbox"}), "abc")
	if rec, err := b.record("abc"); err != nil || len(rec.Neighbors) != 0 || permanent(ns) != 0 {
		t.Errorf("%d entries, record %+v, %v", permanent(ns), rec, err)
	}
}

func TestWhatASandboxLacksIsToldOnce(t *testing.T) {
	path := newSegment(t).Mount()
	b := newBed(t)
	joining := func() string {
		return newBundle(t, path, map[string]string{crioType: typeContainer, crioSandbox: "pod"})
	}
	b.begin(cmdCreate, joining(), "first")
	said := b.messages()[levelWarning]
	if !strings.Contains(said, "10.88.0.1 on eth0") {
		t.Errorf("said %q", said)
	}
	b.begin(cmdCreate, joining(), "second")
	if now := b.messages()[levelWarning]; now != said {
		t.Errorf("said again: %q", strings.TrimPrefix(now, said))
	}
}

// podman names its pod in the container, and the container in the sandbox's record.
func TestASandboxHasOneRecordUnderWhateverNameItIsJoined(t *testing.T) {
	path := newSegment(t).Mount()
	b := newBed(t)
	b.begin(cmdCreate, newBundle(t, path, map[string]string{crioType: "sandbox"}), "abc")
	b.options.Enforce = true
	if got := b.begin(cmdCreate, newBundle(t, path, map[string]string{crioType: typeContainer, crioSandbox: "id-of-the-pod"}), "def"); ran(got) {
		t.Errorf("%+v", got)
	}
	if rec, err := b.record("id-of-the-pod"); err == nil {
		t.Errorf("a second record: %+v", rec)
	}
}

func TestAContainerThatJoinsWhatIsNotThere(t *testing.T) {
	bundle := newBundle(t, filepath.Join(t.TempDir(), "none"), map[string]string{containerdType: typeContainer, containerdSandbox: "abc"})
	b := newBed(t)
	if got := b.begin(cmdCreate, bundle, "def"); !ran(got) || b.messages()[levelWarning] == "" {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	b.options.Enforce = true
	if got := b.begin(cmdCreate, bundle, "def"); ran(got) || got.code != exitError {
		t.Errorf("enforced: %+v, said %v", got, b.messages())
	}
}
