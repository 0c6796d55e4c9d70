// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// kernelPod is a pod on the kernel's stack that has started, and is repaired.
func (n *node) kernelPod(id string) *pod {
	n.t.Helper()
	p := n.newPodAs(id, "", typeRunc)
	p.rec.Annotations = map[string]string{selection.PinAnnotation: "true"}
	n.veth(p.NS, "v"+id)
	p.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
	p.listed().ready()
	n.eventually("pod "+id+" to be pinned", func() bool { return strings.Contains(p.permanent(), gateway4) })
	n.eventually("the record of "+id, func() bool { return !n.recordOf(id).CapturedAt.IsZero() })
	if n.engine.ContainerCreating(n.t.Context(), id) == "" {
		n.t.Fatalf("pod %s gets no annotation", id)
	}
	n.settled(id)
	return p
}

// What stands at a path when a pod's turn comes to be compared is not what was
// recorded: nothing is done in it, whatever it is, and that is said once.
func TestWhatReplacesANamespaceIsLeftAlone(t *testing.T) {
	other := nstest.New(t)
	other.Veth("eth0", nstest.Own(t), "vother")
	t.Cleanup(func() { _, _ = nstest.Own(t).TryIP("link del vother") })
	other.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
	for name, c := range map[string]struct {
		source string
		gone   bool // that is no namespace, and none of ours to complain of
	}{
		"another pod's":   {source: other.Ref()},
		"the host's":      {source: "/proc/self/ns/net"},
		"of another kind": {source: "/proc/self/ns/uts", gone: true},
		"a device":        {source: "/dev/null", gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNodeWith(t, func(n *node) { n.compare = 20 * time.Millisecond })
			pod := n.kernelPod("p1")
			host := n.outside.Output("neigh", "show")
			if err := unix.Mount(c.source, pod.rec.NetNSPath, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(pod.rec.NetNSPath, unix.MNT_DETACH) })
			// The pod's own namespace goes on, and its loss cannot be repaired by path.
			pod.IP("neigh del " + gateway4 + " dev eth0")
			if !c.gone {
				n.eventually("somebody to be told", func() bool { return n.recordOf("p1").Error != "" })
			}
			n.engine.TakeOver(t.Context(), []record.Identity{identify(pod.rec)})
			n.engine.TakeOver(t.Context(), []record.Identity{identify(pod.rec)})
			if told := n.log.count(record.KindFailed); told > 1 || !c.gone && told == 0 {
				t.Errorf("told %d times, last: %v", told, n.log.last(record.KindFailed).Err)
			}
			if left := strings.TrimSpace(other.Output("neigh", "show")); left != "" {
				t.Errorf("the other namespace has %q", left)
			}
			if left := n.outside.Output("neigh", "show"); left != host {
				t.Errorf("the host's entries were %q and are %q", host, left)
			}
			if err := unix.Unmount(pod.rec.NetNSPath, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			n.eventually("the pin to be back with the namespace", func() bool { return strings.Contains(pod.permanent(), gateway4) })
			n.eventually("the error to be over", func() bool { return n.recordOf("p1").Error == "" })
		})
	}
}

// A file under a pod's name that is no network namespace costs that pod its pins,
// says why, and costs no other anything.
func TestWhatIsNoNamespaceUnderAPodsName(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a FIFO":               func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a directory":          func(path string) error { return os.Mkdir(path, 0o700) },
		"a file":               func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"another kind":         func(path string) error { return os.Symlink("/proc/self/ns/uts", path) },
		"a link to itself":     func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"a link to the host's": func(path string) error { return os.Symlink("/proc/self/ns/net", path) },
		"a link to nothing":    func(path string) error { return os.Symlink("none", path) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			path := filepath.Join(n.netnsDir, "cni-bad")
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			rec := containerd.Record{ID: "bad", Handler: "runsc", Runtime: typeGVisor, NetNSPath: path, NetworkReady: true}
			n.store.put(rec)
			// Also by NRI, which waits for what it is told of.
			n.engine.SandboxStarted(t.Context(), identify(rec))
			n.eventually("the bad one to be given up", func() bool { return n.recordOf("bad").ID == "" })
			if value := n.engine.ContainerCreating(t.Context(), "bad"); value != "" {
				t.Errorf("annotation %q", value)
			}
			if _, err := n.engine.records.Load("bad"); err == nil {
				t.Error("a record of it")
			}
			pod := n.newPod("runsc", typeGVisor).listed().cni().ready()
			n.awaitPinned()
			pod.take()
			n.awaitVerdict(record.InTime)
		})
	}
}

// The kubelet makes a pod's sandbox anew under the same name; both are there for a
// while, and the end of the one is not the other's.
func TestPodWhoseSandboxIsMadeAnew(t *testing.T) {
	n := newNode(t)
	first := n.kernelPod("s1")
	n.engine.SandboxStopped("s1")
	second := n.kernelPod("s2") // the same pod: name, namespace and uid
	n.engine.SandboxStopped("s1")
	n.engine.SandboxRemoved("s1")
	first.remove()
	n.engine.SandboxRemoved("s1")
	n.engine.SandboxStopped("s1")
	n.eventually("the first one's record to go", func() bool {
		_, err := n.engine.records.Load("s1")
		return err != nil
	})
	rec, err := n.engine.records.Load("s2")
	if err != nil || rec.NetNS.Cookie != second.Cookie() {
		t.Errorf("record of the second: %+v, %v", rec, err)
	}
	a, err := annotation.Parse(n.engine.ContainerCreating(t.Context(), "s2"))
	if err != nil || a.Cookie != second.Cookie() {
		t.Errorf("annotation of the second: %+v, %v", a, err)
	}
	second.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the second to be repaired", func() bool { return strings.Contains(second.permanent(), gateway4) })
}

// An id is never used twice. One that comes with another namespace while its
// sandbox is there is a lie, and moves nothing; once the sandbox is removed it is
// another sandbox, and the end of the old one takes nothing from it.
func TestIDThatIsUsedAgain(t *testing.T) {
	n := newNode(t)
	pod := n.kernelPod("s1")
	forged := n.newPodAs("forged", "", typeRunc)
	n.veth(forged.NS, "vforged")
	forged.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
	lie := identify(forged.rec)
	lie.ID, lie.Annotations = "s1", map[string]string{selection.PinAnnotation: "true"}
	n.engine.SandboxStarted(t.Context(), lie)
	n.engine.TakeOver(t.Context(), []record.Identity{lie})
	if left := forged.permanent(); left != "" {
		t.Errorf("pinned in a namespace that is not the sandbox's: %s", left)
	}
	a, err := annotation.Parse(n.engine.ContainerCreating(t.Context(), "s1"))
	if err != nil || a.Cookie != pod.Cookie() || n.recordOf("s1").NetNS.Cookie != pod.Cookie() {
		t.Errorf("annotation %+v, %v; want cookie %d", a, err, pod.Cookie())
	}
	n.engine.SandboxRemoved("s1")
	n.started(lie)
	if !strings.Contains(forged.permanent(), gateway4) {
		t.Errorf("not pinned: %q", forged.permanent())
	}
	n.eventually("the old one to be over with", func() bool { return n.log.count(record.KindReleased) > 0 })
	n.eventually("the new one's record", func() bool {
		rec, err := n.engine.records.Load("s1")
		return err == nil && rec.NetNS.Cookie == forged.Cookie()
	})
}

// Stop and Remove are lost, and the namespace is where no directory is watched:
// its end is seen by the slow comparison.
func TestRemoveThatNeverComesForANamespaceElsewhere(t *testing.T) {
	n := newNodeWith(t, func(n *node) { n.compare = 50 * time.Millisecond })
	watched := n.netnsDir
	n.netnsDir = t.TempDir()
	pod := n.newPodAs("far", "", typeRunc)
	n.netnsDir = watched
	n.veth(pod.NS, "vfar")
	pod.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
	id := identify(pod.rec)
	id.Annotations = map[string]string{selection.PinAnnotation: "true"}
	n.engine.SandboxStarted(t.Context(), id)
	n.engine.ContainerCreating(t.Context(), "far")
	n.settled("far")
	pod.remove()
	n.eventually("the sandbox to be forgotten", func() bool { return n.recordOf("far").ID == "" })
	n.eventually("its record to go", func() bool {
		_, err := n.engine.records.Load("far")
		return err != nil
	})
}

// Events of sandboxes that nobody knows, in any order and without a namespace,
// change nothing and stop nothing.
func TestEventsOutOfTurn(t *testing.T) {
	n := newNode(t)
	for _, id := range []string{"", "unknown", "../../etc/passwd", strings.Repeat("a", 1<<20), "\xff\n", "s1"} {
		n.engine.SandboxRemoved(id)
		n.engine.SandboxStopped(id)
		n.engine.SandboxStarted(t.Context(), record.Identity{ID: id, Handler: "runsc"})
		if value := n.engine.ContainerCreating(t.Context(), id); value != "" {
			t.Errorf("%.20q: annotation %q", id, value)
		}
		if folder := n.engine.LiveFile(id); folder != "" {
			t.Errorf("%.20q: folder %q", id, folder)
		}
		n.engine.TakeOver(t.Context(), []record.Identity{{ID: id, Handler: "runsc", NetNSPath: "/proc/self/ns/net"}})
		n.engine.SandboxStopped(id)
		n.engine.SandboxRemoved(id)
		n.engine.SandboxRemoved(id)
	}
	entries, err := os.ReadDir(filepath.Join(n.stateDir, "sandboxes"))
	if err != nil || len(entries) != 0 {
		t.Errorf("records %v, %v", entries, err)
	}
	pod := n.kernelPod("s1") // an id of which a pod without a namespace was told
	n.engine.SandboxStopped("s1")
	pod.IP("neigh del " + gateway4 + " dev eth0")
	n.engine.SandboxStopped("s1")
	if rec, err := n.engine.records.Load("s1"); err != nil || rec.NetNS.Cookie != pod.Cookie() {
		t.Errorf("stopped twice: record %+v, %v", rec, err)
	}
}

// The old sandbox's life ends only when the new one of its id has its record.
func TestLateEndOfASandboxTakesNothingFromTheNextOfItsID(t *testing.T) {
	n := newNode(t)
	release := n.log.holdUp(record.KindPinned)
	t.Cleanup(release)
	for i, name := range []string{"old", "new"} {
		pod := n.newPodAs(name, "runsc", typeGVisor)
		n.veth(pod.NS, "v"+name)
		pod.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
		id := identify(pod.rec)
		id.ID = podID
		n.engine.SandboxStarted(t.Context(), id)
		n.eventually("the record of the "+name+" one", func() bool {
			rec, err := n.engine.records.Load(podID)
			return err == nil && rec.NetNS.Cookie == pod.Cookie() && len(rec.Neighbors) == 1
		})
		if i == 0 {
			n.engine.SandboxRemoved(podID)
			continue
		}
		n.eventually("both to be held up", func() bool { return n.log.count(record.KindPinned) == 2 })
		release()
		n.eventually("the old one's end", func() bool { return n.log.count(record.KindReleased) == 1 })
		if rec, err := n.engine.records.Load(podID); err != nil || rec.NetNS.Cookie != pod.Cookie() {
			t.Errorf("record of the new one: cookie %d, %v; want %d", rec.NetNS.Cookie, err, pod.Cookie())
		}
	}
}
