// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// stream is a steady flow of new gVisor pods, each of which connects to its gateways and ends, and a container on each node
// that does the same again and again in one sandbox.
type stream struct {
	begun    time.Time
	gateways map[string][]string // by node
	wires    map[string]*wire.Capture
}

const (
	// atOnce is how many pods of the stream there are on a node at a time.
	atOnce = 2
	// least is how many pods have to come, and how often a container has to be started again, before something and after it.
	least = 4
)

// startStream starts it on every node, by controllers in the cluster.
func (b *bed) startStream(t *testing.T) *stream {
	t.Helper()
	s := &stream{begun: time.Now(), gateways: map[string][]string{}, wires: map[string]*wire.Capture{}}
	for _, node := range b.nodes {
		s.gateways[node] = b.gateways(t, node)
		if b.own != nil {
			s.wires[node] = b.listen(t, node)
		}
		// The image's entrypoint is the workload.
		w := wish{runtimeClass: b.runtimeClass, node: node, args: connect(s.gateways[node])[1:]}
		labels := object{"app": "restarts-" + node}
		once := b.spec(w)
		once["restartPolicy"] = "Never"
		b.apply(t, object{
			"apiVersion": "batch/v1", "kind": "Job", "metadata": object{"name": "stream-" + node, "namespace": home},
			"spec": object{"completions": 10000, "parallelism": atOnce, "backoffLimit": 0, "template": object{"spec": once}},
		})
		b.apply(t, object{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "restarts-" + node, "namespace": home},
			"spec": object{"selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": b.spec(w)}},
		})
	}
	return s
}

// flow is how far the stream has come on a node.
type flow struct{ pods, restarts int }

// flow asks how far the stream has come; a pod or container of it that failed is an error.
func (b *bed) flow(node string) (flow, error) {
	var f flow
	var errs []error
	coming, err := b.pods(home, "--selector", "batch.kubernetes.io/job-name=stream-"+node)
	if err != nil {
		return f, err
	}
	staying, err := b.pods(home, "--selector", "app=restarts-"+node)
	if err != nil {
		return f, err
	}
	for _, p := range coming {
		switch p.Status.Phase {
		case "Succeeded":
			f.pods++
		case "Failed":
			errs = append(errs, fmt.Errorf("%s failed: %s", p, ended(p.container().State)))
		}
	}
	for _, p := range staying {
		f.restarts += p.container().RestartCount
		for _, state := range []containerState{p.container().State, p.container().LastState} {
			if end := state.Terminated; end != nil && end.ExitCode != 0 {
				errs = append(errs, fmt.Errorf("%s: its container failed: %s", p, ended(state)))
			}
			if wait := state.Waiting; wait != nil && strings.HasPrefix(wait.Reason, "Create") {
				errs = append(errs, fmt.Errorf("%s: its container is not made: %s %s", p, wait.Reason, wait.Message))
			}
		}
	}
	return f, errors.Join(errs...)
}

func ended(state containerState) string {
	if state.Terminated == nil {
		return "it says nothing of it"
	}
	return fmt.Sprintf("exit code %d, %s %s", state.Terminated.ExitCode, state.Terminated.Reason, state.Terminated.Message)
}

// flows waits until the stream has come further on every node than it had.
func (b *bed) flows(t *testing.T, since map[string]flow) map[string]flow {
	t.Helper()
	now := map[string]flow{}
	for _, node := range b.nodes {
		b.await(t, "new pods and restarts of the stream on node "+node, func() error {
			f, err := b.flow(node)
			if err != nil {
				t.Fatal(err) // nothing to wait for
			}
			if f.pods < since[node].pods+least || f.restarts < since[node].restarts+least {
				return fmt.Errorf("%d pods have ended, %d before; %d restarts, %d before", f.pods, since[node].pods, f.restarts, since[node].restarts)
			}
			now[node] = f
			return nil
		})
	}
	return now
}

// stop ends the stream and waits until it is gone.
func (b *bed) stop(t *testing.T, s *stream) {
	t.Helper()
	args := []string{"delete", "--namespace", home, "--cascade=foreground", "--timeout=" + patience.String()}
	for node := range s.gateways {
		args = append(args, "job/stream-"+node, "deployment/restarts-"+node)
	}
	b.kubectl(t, args...)
}

// prove proves of all pods of the stream, also those that are gone, that none failed and none was unpinned.
func (b *bed) prove(t *testing.T, s *stream) {
	t.Helper()
	events, err := b.eventsOf("")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		of := strings.HasPrefix(e.Object.Name, "stream-") || strings.HasPrefix(e.Object.Name, "restarts-")
		if of && e.Type == "Warning" && e.Reason != "BackOff" {
			t.Errorf("pod %s: %s: %s", e.Object.Name, e.Reason, e.Message)
		}
	}
	all, unproven := b.records(t), 0
	for name, record := range all {
		switch verdict := record.Timing.Verdict; {
		case verdict == "unproven" && b.own != nil:
			// It claims nothing, as where others held the kernel's lock on links for as long as the margin; gVisor's own word is below.
			if unproven++; unproven > 1+len(all)/10 {
				t.Errorf("%d of %d pods are unproven", unproven, len(all))
			}
			t.Logf("pod %s: unproven: %+v", name, record)
		case verdict != "inTime" && verdict != "pending":
			t.Errorf("pod %s: verdict %q, want inTime: %+v", name, verdict, record)
		}
	}
	if b.own == nil {
		return
	}
	if _, err := b.allPinned(); err != nil {
		t.Error(err)
	}
	for node, capture := range s.wires {
		gateways := addresses(t, s.gateways[node])
		asked := slices.DeleteFunc(capture.Messages(wire.Asks("", s.begun, gateways...)), func(m wire.Message) bool {
			return m.Sender == (netip.Addr{})
		})
		if len(asked) > 0 {
			t.Errorf("node %s: pods ask for gateways %v, although all are pinned:\n%s", node, gateways, wire.Format(asked[:min(len(asked), 20)]))
		}
	}
}

// testRollingUpdate replaces every neighpin while pods come and containers are started again.
func testRollingUpdate(t *testing.T, b *bed) {
	before := b.records(t)
	sandboxes := b.count(t)
	s := b.startStream(t)
	first := b.flows(t, nil)
	start := time.Now()
	b.kubectl(t, "rollout", "restart", "--namespace", app, "daemonset/"+app)
	b.rolledOut(t)
	took := time.Since(start)
	last := b.flows(t, first)
	for node := range last {
		t.Logf("node %s: %d pods of the stream have ended, %d restarts of a container; %+v of it before the update", node, last[node].pods, last[node].restarts, first[node])
	}
	b.prove(t, s)
	b.stop(t, s)
	b.kept(t, before)
	t.Logf("updated in %s", round(took))
	if b.own != nil {
		t.Logf("%d sandboxes started meanwhile, all pinned by gVisor's word and by the wire", b.count(t)-sandboxes)
	}
	b.memory(t, "after a stream of pods")
}

// count is how many gVisor sandboxes have started with neighpin, zero where nodes are not at hand.
func (b *bed) count(t *testing.T) int {
	t.Helper()
	if b.own == nil {
		return 0
	}
	count, err := b.allPinned()
	if err != nil {
		t.Error(err)
	}
	return count
}

// theDaemon is a shell's word for the process of a node's neighpin: the oldest, since a probe of its pod is a neighpin too, for a moment.
const theDaemon = "$(pgrep -o -x neighpin)"

// memoryScript prints what the daemon's process takes, and what its container is charged with, the probes' processes included.
const memoryScript = `pid=` + theDaemon + `
grep -E '^(VmRSS|VmHWM|RssAnon)' /proc/$pid/status
group=$(sed -n 's/^[0-9]*:memory://p' /proc/$pid/cgroup)
for file in /sys/fs/cgroup/memory$group/memory.usage_in_bytes /sys/fs/cgroup/memory$group/memory.max_usage_in_bytes \
    /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)/memory.current /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)/memory.peak; do
  if [ -e "$file" ]; then echo "${file##*/}: $(($(cat "$file") / 1024)) kB"; fi
done`

// memory logs what the node's neighpins take, where nodes are at hand.
func (b *bed) memory(t *testing.T, when string) {
	t.Helper()
	if b.own == nil {
		return
	}
	for _, node := range b.nodes {
		// It is a figure and no statement: where it cannot be had, that is no failure.
		text, err := b.own.Node(b.ctx, node, nil, "sh", "-euc", memoryScript)
		if err != nil {
			t.Log(err)
			continue
		}
		t.Logf("memory of neighpin on node %s, %s: %s", node, when, strings.Join(strings.Fields(text), " "))
	}
}
