// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/record"
)

// Nothing is repaired in a sandbox that the runtime stops. What is repaired in
// another one afterwards shows that there was time for it.
func TestNothingIsRepairedOnceASandboxIsStopped(t *testing.T) {
	rt := newRuntime(t)
	rt.serve(t, t.TempDir())
	stopped, first := newPod(t, "runsc", nil)
	living, second := newPod(t, "runsc", nil)
	second.Id = "fedcba9876543210"
	rt.begin(first)
	rt.begin(second)
	if err := rt.nri.StopPodSandbox(t.Context(), &api.StopPodSandboxRequest{Pod: first}); err != nil {
		t.Fatal(err)
	}
	pinned := func(ns *nstest.NS) bool {
		return strings.Contains(ns.Output("neigh", "show", "nud", "permanent"), "10.88.0.1 dev eth0 ")
	}
	stopped.IP("neigh del 10.88.0.1 dev eth0")
	living.IP("neigh del 10.88.0.1 dev eth0")
	nstest.Eventually(t, "the pin of the living pod to be mended", func() bool { return pinned(living) })
	if pinned(stopped) {
		t.Error("that of the stopped pod was mended, too")
	}
}

// A container that was created while there was no connection has come unseen:
// nobody can tell whether the pins were there in time.
func TestAContainerThatCameUnseenEndsTheProof(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	_, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	verdict := func() record.Verdict { return p.engine.Status().Sandboxes[0].Timing.Verdict }
	if got := verdict(); got != record.Pending {
		t.Fatalf("%s before a container has come", got)
	}
	rt.has(pod, &api.Container{Id: "c1", PodSandboxId: pod.GetId()})
	rt.relay.cut()
	nstest.Eventually(t, "the verdict", func() bool { return verdict() == record.Unproven })
}

// A handler that is too slow costs its event, and the pod only where that was asked for.
func TestAnAnswerThatComesTooLateCostsNoConnection(t *testing.T) {
	for name, failing := range map[string]bool{"the pod goes on": false, "the pod is to fail": true} {
		t.Run(name, func(t *testing.T) {
			rt := newRuntime(t)
			late := make(chan struct{})
			p := newPluginOf(t, Options{Socket: rt.socket, FailRequest: failing, Observe: func(hook string, _ time.Duration, _ error) {
				if hook == "RunPodSandbox" {
					<-late
				}
			}}, t.TempDir())
			p.awaitSynchronized(t, rt)
			nstest.Eventually(t, "the registration to be told", func() bool { good, _ := p.registrations(); return good == 1 })
			_, pod := newPod(t, "runsc", nil)
			adaptation.SetPluginRequestTimeout(time.Second) // in which the plugin has at least begun
			err := rt.nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: pod})
			adaptation.SetPluginRequestTimeout(nriPatience)
			close(late)
			if (err != nil) != failing {
				t.Errorf("RunPodSandbox: %v", err)
			}
			if rt.createContainer(pod, nil)[annotation.Key] == "" {
				t.Error("no annotation afterwards")
			}
			if good, bad := p.registrations(); good != 1 || bad != 0 {
				t.Errorf("registered %d times and in vain %d times, want once", good, bad)
			}
		})
	}
}

func TestThePluginIsReadyOnceItHasTakenOverWhatIsThere(t *testing.T) {
	for range 10 {
		ns, pod := newPod(t, "runsc", nil)
		h := serving(t, t.TempDir())
		var entries string
		h.onSync = func() { entries = ns.Output("neigh", "show", "nud", "permanent") }
		began := time.Now()
		_, err := h.Synchronize(t.Context(), []*api.PodSandbox{pod}, nil)
		if err == nil && strings.Contains(entries, "10.88.0.1 dev eth0 ") {
			return
		}
		// After a second it is ready in any case; that is over where the machine has stood still.
		if err != nil || time.Since(began) < time.Second {
			t.Fatalf("entries when it said that it was ready: %q, %v", entries, err)
		}
	}
	t.Error("ready ten times without having taken over what is there")
}
