// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/selection"
)

func TestRunPodSandboxPinsAndCreateContainerAnnotates(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	if state := p.State(); state.Runtime != "test-runtime" || state.RequestTimeout == 0 {
		t.Errorf("state %+v", state)
	}

	ns, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	if got := ns.Output("neigh", "show", "nud", "permanent"); !strings.Contains(got, "10.88.0.1 dev eth0 ") {
		t.Errorf("entries after RunPodSandbox: %q", got)
	}
	if known := p.engine.Status().Sandboxes; len(known) != 1 || known[0].Name != "web" || known[0].Namespace != "shop" || known[0].UID != "u1" || known[0].Handler != "runsc" {
		t.Errorf("known as %+v", known)
	}
	value := rt.createContainer(pod, nil)[annotation.Key]
	a, err := annotation.Parse(value)
	if err != nil {
		t.Fatalf("annotation %q: %v", value, err)
	}
	if a.Cookie != ns.Cookie() || len(a.Neighbors) != 1 {
		t.Errorf("annotation %q", value)
	}

	for _, event := range []func() error{
		func() error { return rt.nri.StopPodSandbox(t.Context(), &api.StopPodSandboxRequest{Pod: pod}) },
		func() error { return rt.nri.RemovePodSandbox(t.Context(), &api.RemovePodSandboxRequest{Pod: pod}) },
	} {
		if err := event(); err != nil {
			t.Fatal(err)
		}
	}
	for _, hook := range []string{"Synchronize", "RunPodSandbox", "CreateContainer", "StopPodSandbox", "RemovePodSandbox"} {
		if n := p.count(hook); n != 1 {
			t.Errorf("%s observed %d times, want once", hook, n)
		}
	}
	nstest.Eventually(t, "the sandbox to be forgotten", func() bool { return len(p.engine.Status().Sandboxes) == 0 })
}

func TestPodsOfOtherHandlersAreLeftAlone(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	ns, pod := newPod(t, "runc", nil)
	rt.runPodSandbox(pod)
	if got := rt.createContainer(pod, nil); len(got) != 0 {
		t.Errorf("adjusted: %v", got)
	}
	if got := ns.Output("neigh", "show"); strings.Contains(got, "PERMANENT") {
		t.Errorf("entries: %q", got)
	}
	hostPod := &api.PodSandbox{Id: "feed", Name: "agent", Namespace: "kube-system", RuntimeHandler: "runsc"}
	rt.runPodSandbox(hostPod)
	if got := rt.createContainer(hostPod, nil); len(got) != 0 {
		t.Errorf("pod on the host's network adjusted: %v", got)
	}
	if said := p.messages(); strings.Contains(said, "asks for "+selection.FileAnnotation) {
		t.Errorf("said of pods that do not:\n%s", said)
	}
}

func TestKeyThatThePodBringsIsOverwrittenAndTold(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	_, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	for name, forged := range map[string]string{
		"forged":     `{"version":1,"cookie":1,"capturedAt":"2026-01-02T03:04:05Z","neighbors":[]}`,
		"1.5 MB":     strings.Repeat("x", 3<<19), // NRI itself refuses more than 4 MiB in a message, and it is there twice
		"duplicates": `{"version":1,"version":1}`,
		"log lines":  "\n\x1b[2Jlevel=error msg=forged",
	} {
		t.Run(name, func(t *testing.T) {
			before := p.said(logrus.WarnLevel)
			// As where an operator passes the pod's annotations on to containers.
			pod.Annotations = map[string]string{annotation.Key: forged}
			value := rt.createContainer(pod, map[string]string{annotation.Key: forged})[annotation.Key]
			if a, err := annotation.Parse(value); err != nil || len(a.Neighbors) != 1 {
				t.Errorf("annotation %.200q, %v", value, err)
			}
			if p.said(logrus.WarnLevel) == before {
				t.Error("nobody was told")
			}
		})
	}
}

func TestSynchronizeTakesOverWhatIsThere(t *testing.T) {
	ns, pod := newPod(t, "runsc", nil)
	rt := newRuntime(t, pod)
	rt.serve(t, t.TempDir())
	nstest.Eventually(t, "the older sandbox to be pinned", func() bool {
		return strings.Contains(ns.Output("neigh", "show", "nud", "permanent"), "10.88.0.1 dev eth0 ")
	})
	if rt.createContainer(pod, nil)[annotation.Key] == "" {
		t.Error("no annotation for a container of an older sandbox")
	}
}

func TestTwoPluginsDoNotQuarrel(t *testing.T) {
	rt := newRuntime(t)
	stateDir := t.TempDir()
	first := rt.serve(t, stateDir)
	rt.serve(t, stateDir)
	_, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	if rt.createContainer(pod, nil)[annotation.Key] == "" {
		t.Error("no annotation while two plugins serve")
	}
	first.stop()
	if rt.createContainer(pod, nil)[annotation.Key] == "" {
		t.Error("no annotation after the first has gone")
	}
}

func TestAPluginThatEndsHangsUp(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	_, pod := newPod(t, "runsc", nil)
	rt.begin(pod)
	p.stop()
	nstest.Eventually(t, "the runtime to go on without it", func() bool { return len(rt.createContainer(pod, nil)) == 0 })
}

func TestConnectsAgainWhenTheRuntimeComesBack(t *testing.T) {
	rt := newRuntime(t)
	rt.stop()
	p := newPlugin(t, rt.socket, t.TempDir())
	nstest.Eventually(t, "the absence to be told", func() bool { return p.said(logrus.WarnLevel) == 1 })
	for warnings := 1; warnings <= 3; warnings += 2 {
		rt.start()
		p.awaitSynchronized(t, rt)
		if state := p.State(); state.Err != nil {
			t.Errorf("connected, and yet: %v", state.Err)
		}
		rt.stop()
		nstest.Eventually(t, "the loss to be seen", func() bool { return !p.State().Connected })
		// It was there meanwhile, so that its absence is news again.
		nstest.Eventually(t, "the loss and the absence to be told", func() bool { return p.said(logrus.WarnLevel) == warnings+2 })
	}
}

func TestEveryRegistrationIsToldAndALossIsNone(t *testing.T) {
	rt := newRuntime(t)
	rt.stop()
	p := newPlugin(t, rt.socket, t.TempDir())
	nstest.Eventually(t, "attempts that fail", func() bool { _, bad := p.registrations(); return bad >= 2 })
	rt.start()
	p.awaitSynchronized(t, rt)
	nstest.Eventually(t, "the first registration to be told", func() bool { good, _ := p.registrations(); return good == 1 })
	_, before := p.registrations()
	rt.relay.cut()
	nstest.Eventually(t, "the second registration to be told", func() bool { good, _ := p.registrations(); return good == 2 })
	if _, now := p.registrations(); now != before {
		t.Errorf("%d registrations failed where a connection was lost and made again", now-before)
	}
}

func TestAConfigurationThatIsRefusedIsToldAndTriedAgain(t *testing.T) {
	rt := newRuntime(t)
	rt.stop()
	p := newPlugin(t, rt.socket, t.TempDir())
	p.wrong.Store(true)
	rt.start()
	nstest.Eventually(t, "the reason", func() bool {
		err := p.State().Err
		return err != nil && strings.Contains(err.Error(), "take configuration from NRI: no such setting")
	})
	p.wrong.Store(false)
	p.awaitSynchronized(t, rt)
}

func TestMissingSocketIsToldOnceAndWaitedFor(t *testing.T) {
	dir, err := os.MkdirTemp("", "nri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := newPlugin(t, filepath.Join(dir, "nri.sock"), t.TempDir())
	nstest.Eventually(t, "the socket's absence to be told", func() bool { return p.said(logrus.WarnLevel) == 1 })
	attempts := func() int { return strings.Count(p.messages(), "Created plugin") }
	nstest.Eventually(t, "further attempts", func() bool { return attempts() >= 3 })
	if n := p.said(logrus.WarnLevel); n != 1 {
		t.Errorf("%d warnings after %d attempts", n, attempts())
	}
	if err := p.State().Err; err == nil {
		t.Error("the state does not say why there is no connection")
	}
}

// containerd cannot synchronize any plugin while it has a pod that is larger than
// NRI's messages; it hangs up then, after each registration.
func TestRuntimeThatCannotSynchronizeIsToldOnceAndAskedLessOften(t *testing.T) {
	rt := newRuntime(t)
	rt.torn.Store(true)
	p := newPlugin(t, rt.socket, t.TempDir())
	attempts := func() int { return strings.Count(p.messages(), "Created plugin") }
	begin := time.Now()
	nstest.Eventually(t, "further attempts", func() bool { return attempts() >= 5 })
	// Four pauses from 100 ms on, each half as long again, less half of it by chance.
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("5 attempts within %s", took)
	}
	if n := p.said(logrus.InfoLevel); n != 1 {
		t.Errorf("%d lines in the log after %d attempts:\n%s", n, attempts(), p.messages())
	}
	rt.torn.Store(false)
	p.awaitSynchronized(t, rt)
}

func (p *plugin) messages() string {
	var all strings.Builder
	for _, entry := range p.log.AllEntries() {
		all.WriteString(entry.Message + "\n")
	}
	return all.String()
}

// A runtime that refuses, hangs up at once, or hangs up after the registration.
func TestRuntimeThatHangsUpHalfway(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"at once":                func(conn net.Conn) { _ = conn.Close() },
		"after the registration": acceptRegistrationAndHangUp,
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "nri")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			listener, err := net.Listen("unix", filepath.Join(dir, "nri.sock"))
			if err != nil {
				t.Fatal(err)
			}
			accepted := make(chan struct{}, 16)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					select {
					case accepted <- struct{}{}:
					default:
					}
					serve(conn)
				}
			}()
			p := newPlugin(t, listener.Addr().String(), t.TempDir())
			for range 5 { // it comes again, each time with a new stub
				<-accepted
			}
			if n := p.said(logrus.WarnLevel); n != 1 {
				t.Errorf("%d warnings about one and the same, want 1:\n%s", n, p.messages())
			}
			if name == "after the registration" {
				// The stub itself saw nothing: it had to be woken.
				nstest.Eventually(t, "a registration that hung to be given up", func() bool {
					err := p.State().Err
					return err != nil && err.Error() == "register with NRI: "+errHungUp.Error()
				})
			}
			p.stop()
			_ = listener.Close()
			<-ended
		})
	}
}
