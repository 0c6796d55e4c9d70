// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// optIn is what a pod that is not selected by its handler says.
var optIn = map[string]string{pinAnnotation: "true"}

// stacks are the pods that every datapath is tried with: one whose network stack is its runtime's and one that uses the kernel's.
var stacks = []struct {
	name string
	spec node.PodSpec
}{
	{"gVisor", node.PodSpec{Handler: "runsc"}},
	{"runc", node.PodSpec{Handler: "runc", Annotations: optIn}},
}

// rowRun is one pod in one datapath, started, with an idle container.
type rowRun struct {
	d         *node.Daemon // nil in a control
	wire      *wire.Capture
	gvisor    bool
	begin     time.Time // before the pod was run
	pod       *node.Pod
	container *node.Container
	sandbox   node.Sandbox // when the verdict was there
}

// rowSpec says which row to run. Of the fields only name is needed.
type rowSpec struct {
	// name is the datapath's.
	name string
	// parameters are left for the plugin.
	parameters any
	// control runs without neighpin.
	control bool
	// only is the name of the one stack to run with; the row says why.
	only string
	// args are further flags of the daemon.
	args []string
	// tries is how many pods may be run until one was in luck, 1 if 0: where something is a matter of luck, as the row says. In luck is one
	// that was pinned in time, unless lucky says otherwise.
	tries int
	lucky func(r *rowRun) bool
	// change varies the pod.
	change func(pod *node.PodSpec)
	// leftovers says that things were left on the node for the pod's addresses.
	leftovers bool
	// before is called before the pod is run.
	before func(t *testing.T, r *rowRun)
}

// row runs a datapath with a gVisor pod and then with a runc pod that asks to be pinned, and hands each to fn when neighpin
// has said how its pins did.
func row(t *testing.T, spec rowSpec, fn func(t *testing.T, r *rowRun)) {
	t.Helper()
	for _, stack := range stacks {
		if spec.only != "" && spec.only != stack.name {
			continue
		}
		t.Run(stack.name, func(t *testing.T) {
			keepLogs(t)
			under(t, "datapath "+spec.name)
			r := &rowRun{gvisor: stack.name == "gVisor"}
			if !spec.control {
				r.d = startDaemon(t, spec.args...)
			}
			r.wire = capture(t)
			if spec.before != nil {
				spec.before(t, r)
			}
			pod := stack.spec
			pod.Namespace = spec.name
			pod.Name = strings.ToLower(spec.name + "-" + stack.name)
			if spec.change != nil {
				spec.change(&pod)
			}
			r.run(t, pod, spec.parameters)
			lucky := spec.lucky
			if lucky == nil {
				lucky = func(r *rowRun) bool { return r.sandbox.Timing.Verdict == "inTime" }
			}
			for try := 2; try <= spec.tries && !lucky(r); try++ {
				t.Logf("pod %s was out of luck, another is tried: %+v", pod.Name, r.sandbox.Timing)
				pod.Name = fmt.Sprintf("%s-%d", strings.ToLower(spec.name+"-"+stack.name), try)
				r.run(t, pod, spec.parameters)
			}
			fn(t, r)
			r.sysctlsKept(t)
			if !spec.leftovers {
				r.nothingLeft(t)
			}
		})
	}
}

// run runs the pod with a container and waits for the verdict.
func (r *rowRun) run(t *testing.T, pod node.PodSpec, parameters any) {
	t.Helper()
	if err := datapath.WriteParameters(pod.Name, parameters); err != nil {
		t.Fatal(err)
	}
	r.begin = time.Now()
	r.pod = runPod(t, pod)
	r.container = runContainer(t, r.pod)
	if r.d == nil {
		return
	}
	r.refresh(t)
	bed.figures.add(r.pod, r.sandbox.Timing)
}

// refresh reads what neighpin says about the pod.
func (r *rowRun) refresh(t *testing.T) {
	t.Helper()
	var err error
	if r.sandbox, err = started(t.Context(), r.d, r.pod); err != nil {
		t.Fatal(err)
	}
}

// sysctlsKept checks that no setting of the network, of the node or the pod, has changed since the CNI was done, by whoever. A
// datapath that does not record them claims nothing.
func (r *rowRun) sysctlsKept(t *testing.T) {
	t.Helper()
	changed, err := r.sysctlsChanged()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || len(changed) != 0 {
		t.Errorf("pod %s: settings have changed since the CNI was done: %v\n%s", r.pod.Name, err, strings.Join(changed, "\n"))
	}
}

func (r *rowRun) sysctlsChanged() ([]string, error) {
	before, err := datapath.SysctlsAfterCNI(r.pod.Name)
	if err != nil {
		return nil, err
	}
	now, err := datapath.ReadSysctls(r.pod.NetNS)
	if err != nil {
		return nil, err
	}
	// These two runc sets in every pod, as the CRI asks (containerd's enable_unprivileged_ports and enable_unprivileged_icmp).
	for _, name := range []string{"ipv4/ip_unprivileged_port_start", "ipv4/ping_group_range"} {
		delete(before.Pod, name)
		delete(now.Pod, name)
	}
	return before.Changed(now), nil
}

// truth is what a gateway has to be pinned to, and by whose word.
type truth struct{ lladdr, source string }

func (t truth) String() string { return t.lladdr + " (" + t.source + ")" }

// at is the key of a gateway on another link than eth0.
func at(dst, dev string) string { return dst + " " + dev }

// pinned checks that exactly these gateways are pinned, in time, and that the status, the annotation and the stack that the pod
// uses agree.
func (r *rowRun) pinned(t *testing.T, want map[string]truth) {
	t.Helper()
	if r.sandbox.Timing.Verdict != "inTime" {
		t.Errorf("pod %s: verdict %q with a margin of %g ms, error %q; expected inTime", r.pod.Name, r.sandbox.Timing.Verdict, r.sandbox.Timing.MarginMs, r.sandbox.Error)
	}
	r.recorded(t, want)
	plain := map[string]string{}
	for dst, truth := range want {
		dst, _, _ = strings.Cut(dst, " ")
		plain[dst] = truth.lladdr
	}
	r.agree(t, "its network stack", r.used(t), plain)
	r.agree(t, "its annotation", r.annotated(t, r.container), plain)
}

// recorded checks the gateways that the status lists.
func (r *rowRun) recorded(t *testing.T, want map[string]truth) {
	t.Helper()
	got, expected := map[string]string{}, map[string]string{}
	for _, n := range r.sandbox.Neighbors {
		key := n.Dst
		if n.Dev != "eth0" {
			key = at(n.Dst, n.Dev)
		}
		got[key] = truth{n.LLAddr, n.Source}.String()
	}
	for gateway, truth := range want {
		expected[gateway] = truth.String()
	}
	if len(got) != len(r.sandbox.Neighbors) {
		t.Errorf("pod %s: a gateway is recorded twice: %+v", r.pod.Name, r.sandbox.Neighbors)
	}
	r.agree(t, "the pins of its record", got, expected)
}

// agree compares what is known of each gateway.
func (r *rowRun) agree(t *testing.T, of string, seen, expected map[string]string) {
	t.Helper()
	if lines := differences(seen, expected); len(lines) > 0 {
		t.Error(disagree(fmt.Sprintf("pod %s, gateways in %s", r.pod.Name, of), lines))
	}
}

// skipped checks the gateways that are not pinned: the reason by address.
func (r *rowRun) skipped(t *testing.T, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, s := range r.sandbox.Skipped {
		got[s.Dst] = s.Reason
	}
	if len(got) != len(r.sandbox.Skipped) {
		t.Errorf("pod %s: a gateway is skipped twice: %+v", r.pod.Name, r.sandbox.Skipped)
	}
	r.agree(t, "what its record skips", got, want)
}

// used are the permanent neighbors of the stack that the pod uses: gVisor's copies, or the kernel's entries.
func (r *rowRun) used(t *testing.T) map[string]string {
	t.Helper()
	if !r.gvisor {
		return r.entries(t)
	}
	copied, err := r.pod.Copied()
	if err != nil {
		t.Fatal(err)
	}
	return byText(copied)
}

// entries are the permanent neighbors of the kernel's table in the pod, wherever its namespace is mounted.
func (r *rowRun) entries(t *testing.T) map[string]string {
	t.Helper()
	var found map[netip.Addr]string
	err := datapath.Inside(r.pod.NetNS, func() (err error) {
		found, err = permanentEntries(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return byText(found)
}

func byText(neighbors map[netip.Addr]string) map[string]string {
	plain := map[string]string{}
	for dst, lladdr := range neighbors {
		plain[dst.String()] = lladdr
	}
	return plain
}

// annotated are the neighbors of a container's annotation; none if there is no annotation.
func (r *rowRun) annotated(t *testing.T, container *node.Container) map[string]string {
	t.Helper()
	annotations, err := container.Annotations()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	text, ok := annotations[annotationKey]
	if !ok {
		return found
	}
	a, err := parseAnnotation(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range a.Neighbors {
		found[n.Dst] = n.LLAddr
	}
	return found
}

// reaches opens a TCP connection from the pod to each target and fails unless all are made.
func (r *rowRun) reaches(t *testing.T, targets ...string) {
	t.Helper()
	if err := r.connects(t, "connect", targets...); err != nil {
		t.Error(err)
	}
}

// try opens a TCP connection from the pod to each target, and does not wait long for one.
func (r *rowRun) try(t *testing.T, targets ...string) error {
	t.Helper()
	return r.connects(t, "try", targets...)
}

// connects has the workload connect, by that command.
func (r *rowRun) connects(t *testing.T, command string, targets ...string) error {
	t.Helper()
	out, err := r.container.Exec(t.Context(), append([]string{command}, targets...)...)
	if err != nil {
		return err
	}
	if got := strings.Count(out, " connected "); got != len(targets) {
		return fmt.Errorf("pod %s connected to %d of %d targets:\n%s", r.pod.Name, got, len(targets), out)
	}
	return nil
}

// silent checks that the pod has asked for none of the gateways since it was run.
func (r *rowRun) silent(t *testing.T, gateways ...string) {
	t.Helper()
	if asked := r.asked(gateways...); len(asked) != 0 {
		t.Errorf("pod %s asked for its gateways; expected nobody to ask for %s:\n%s", r.pod.Name, strings.Join(gateways, " or "), wire.Format(asked))
	}
	if len(r.wire.Messages(wire.Query{Link: r.pod.HostLink, Since: r.begin})) == 0 {
		t.Errorf("the capture recorded nothing at all on %s; the silence proves nothing", r.pod.HostLink)
	}
}

// asked are the pod's questions for the gateways since it was run.
func (r *rowRun) asked(gateways ...string) []wire.Message { return r.askedSince(r.begin, gateways...) }

func (r *rowRun) askedSince(since time.Time, gateways ...string) []wire.Message {
	var targets []netip.Addr
	for _, gateway := range gateways {
		targets = append(targets, netip.MustParseAddr(gateway))
	}
	return r.wire.Messages(wire.Asks(r.pod.HostLink, since, targets...))
}

// answered are the answers for a gateway that the pod was sent since it was run.
func (r *rowRun) answered(kind wire.Kind, gateway string) []wire.Message {
	return r.wire.Messages(wire.Query{Link: r.pod.HostLink, Since: r.begin, Targets: []netip.Addr{netip.MustParseAddr(gateway)}, Kinds: []wire.Kind{kind}})
}

// hostEnd is the MAC of the host's end of the pod's veth.
func (r *rowRun) hostEnd(t *testing.T) string {
	t.Helper()
	mac, err := hostMAC(r.pod)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}
