// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// The kubelet creates a refused container again and again. CRI-O's sandbox without
// a container of its own has a record by then, which is no pin.
func TestARefusedContainerIsRefusedAgain(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	b.options.Enforce = true
	path := ns.Mount()
	for _, id := range []string{"first", "second", "third"} {
		bundle := newBundle(t, path, map[string]string{crioType: typeContainer, crioSandbox: "pod"})
		if got := b.begin(cmdCreate, bundle, id); ran(got) || !strings.Contains(got.stderr, "UnsupportedLink") {
			t.Errorf("%s: %+v, said %v", id, got, b.messages())
		}
		b.wrap("delete", "--force", id)
	}
}

// A daemon that enforces nothing has recorded the sandbox before its first
// container comes; the wrapper's own wish counts all the same.
func TestTheDaemonsRecordAdmitsNothing(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	path := ns.Mount()
	records, err := record.Open(b.options.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Save(record.Record{
		ID: "pod", NetNS: record.NetNS{Path: path, Cookie: ns.Cookie()}, Phase: record.Starting,
		Timing: record.Timing{Verdict: record.Pending},
	}); err != nil {
		t.Fatal(err)
	}
	b.options.Enforce = true
	bundle := newBundle(t, path, map[string]string{crioType: typeContainer, crioSandbox: "pod"})
	if got := b.begin(cmdCreate, bundle, "first"); ran(got) {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	// What a program of the pod can put there.
	ns.IP("neigh replace 10.88.0.1 dev eth0 lladdr 02:00:00:00:66:66 nud permanent")
	if got := b.begin(cmdCreate, bundle, "second"); ran(got) {
		t.Errorf("with an entry of its own: %+v, said %v", got, b.messages())
	}
	// As a program of the pod can do for a moment.
	ns.IP("address flush dev eth0")
	if got := b.begin(cmdCreate, bundle, "third"); ran(got) {
		t.Errorf("without addresses: %+v, said %v", got, b.messages())
	}
}

// Where a user can write the key that names a container's sandbox, as podman's can,
// it may name another one.
func TestTheRecordOfAnotherSandboxIsNotWrittenOver(t *testing.T) {
	victim, _ := newPod(t)
	b := newBed(t)
	b.begin(cmdCreate, newBundle(t, victim.Mount(), nil), "victim")
	ns, _ := newPod(t)
	bundle := newBundle(t, ns.Mount(), map[string]string{crioType: typeContainer, crioSandbox: "victim"})
	if got := b.begin(cmdCreate, bundle, "abc"); !ran(got) || permanent(ns) != 2 {
		t.Errorf("%+v, %d entries", got, permanent(ns))
	}
	if rec, err := b.record("victim"); err != nil || rec.NetNS.Cookie != victim.Cookie() {
		t.Errorf("the victim's record is of namespace %d, want %d: %v", rec.NetNS.Cookie, victim.Cookie(), err)
	}
	if !strings.Contains(b.messages()[levelWarning], "victim") {
		t.Errorf("said %v", b.messages())
	}
}

// What belongs to another sandbox, or to one that had the id before, says nothing here.
func TestNothingOfAnotherNamespaceIsHandedOn(t *testing.T) {
	victim, _ := newPod(t)
	b := newBed(t)
	b.begin(cmdCreate, newBundle(t, victim.Mount(), nil), "victim")
	for id, keys := range map[string]map[string]string{
		"joins":  {containerdType: typeContainer, containerdSandbox: "victim"},
		"victim": nil,
	} {
		ns, _ := newPod(t)
		ns.IP("address flush dev eth0") // a runtime has taken them
		bundle := newBundle(t, ns.Mount(), keys)
		if got := b.begin(cmdCreate, bundle, id); !ran(got) {
			t.Errorf("%s: %+v, said %v", id, got, b.messages())
		}
		if _, annotations := readConfig(t, bundle); annotations[annotation.Key] != "" {
			t.Errorf("%s: the annotation is %s", id, annotations[annotation.Key])
		}
	}
}

// By writing the key of an engine that is not there, a pod has each of its
// containers taken for a sandbox; what its own programs have put into its tables is
// still nobody's truth.
func TestWhatARunningPodPutsThereIsNotHandedOn(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	path := ns.Mount()
	keys := map[string]string{crioType: typeContainer, crioSandbox: "pod", containerdType: "x"}
	b.begin(cmdCreate, newBundle(t, path, keys), "first")
	ns.IP("neigh replace 10.88.0.1 dev eth0 lladdr 02:00:00:00:66:66 nud permanent")
	later := newBundle(t, path, keys)
	if got := b.begin(cmdCreate, later, "second"); !ran(got) {
		t.Errorf("%+v, said %v", got, b.messages())
	}
	_, annotations := readConfig(t, later)
	a, err := annotation.Parse(annotations[annotation.Key])
	if err != nil || len(a.Neighbors) != 0 {
		t.Errorf("the annotation hands on %+v, %v", a, err)
	}
	rec, err := b.record("second")
	if err != nil || len(rec.Skipped) != 1 || rec.Skipped[0].Reason != neighbor.ReasonUnowned {
		t.Errorf("skipped %+v, %v", rec.Skipped, err)
	}
}

// The other way round: an engine that pods cannot speak for says that a sandbox begins,
// so that what is there was put there before its programs.
func TestWhatAnEngineHasPutThereIsHandedOn(t *testing.T) {
	ns := newSegment(t)
	b := newBed(t)
	path := ns.Mount()
	b.begin(cmdCreate, newBundle(t, path, nil), "first")
	ns.IP("neigh replace 10.88.0.1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent")
	bundle := newBundle(t, path, map[string]string{containerdType: "sandbox"})
	b.begin(cmdCreate, bundle, "second")
	_, annotations := readConfig(t, bundle)
	if a, err := annotation.Parse(annotations[annotation.Key]); err != nil || len(a.Neighbors) != 1 {
		t.Errorf("the annotation hands on %+v, %v", a, err)
	}
}
