// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// testWrongValues gives the chart what values.schema.json does not allow.
func testWrongValues(t *testing.T, b *bed) {
	for want, values := range map[string]string{
		"'handler' not allowed": `{"config": {"handler": ["runsc"]}}`,
		"'/config/logFormat'":   `{"config": {"logFormat": "xml"}}`,
	} {
		_, err := b.kube.HelmOutput(b.ctx, values, "upgrade", "--install", app, b.deploy+"/helm/neighpin", "--namespace", app, "--create-namespace", "--values", "-")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("helm with %s says %v, want something with %q", values, err, want)
			continue
		}
		t.Log(strings.TrimSpace(tail(err.Error())))
	}
	if installed, err := b.kube.Output(b.ctx, "get", "daemonset", "--namespace", app, app); err == nil {
		t.Errorf("a refused chart is installed: %s", installed)
	}
}

// testControl shows that nobody else pins, hence that the later steps can fail. Its pod stays for testReported.
func testControl(t *testing.T, b *bed) {
	p := b.run(t, wish{name: "before", runtimeClass: b.runtimeClass, node: b.nodes[0]})
	copies, err := b.started(p.Spec.NodeName)
	if err != nil {
		t.Fatal(err)
	}
	if len(copies) != 1 {
		t.Fatalf("gVisor's logs on node %s tell of %d sandboxes, want one", p.Spec.NodeName, len(copies))
	}
	for id, n := range copies {
		if n != 0 {
			t.Errorf("%s: gVisor copied %d entries into sandbox %s that neighpin did not make", p, n, id)
		}
	}
	b.exceptUnpinned(t)
	if text, ok := b.ociAnnotations(t, p)[annotationKey]; ok {
		t.Errorf("%s has the annotation %s without neighpin: %s", p, annotationKey, text)
	}
	b.checkHeard(t, p)
}

func testInstall(t *testing.T, b *bed) { b.install(t, object{}) }

// testReported removes the pod of testControl, so that all is well afterwards.
func testReported(t *testing.T, b *bed) {
	before := b.pod(t, home, "before")
	b.await(t, "neighpin status to exit with 3 while "+before.String()+" is not pinned", func() error {
		said, err := b.inAgent(before.Spec.NodeName, "status")
		if err == nil || !strings.Contains(err.Error(), "exit status 3") {
			return fmt.Errorf("it exits with %w and says\n%s", cmp.Or(err, errors.New("0")), said)
		}
		return nil
	})
	b.remove(t, before)
	b.await(t, "neighpin to forget "+before.String(), func() error {
		_, err := b.inAgent(before.Spec.NodeName, "status")
		return err
	})
}

func testPrivileges(t *testing.T, b *bed) {
	const netBroadcast, netAdmin, sysAdmin = 1 << 11, 1 << 12, 1 << 21
	want := fmt.Sprintf("%016x", netBroadcast|netAdmin|sysAdmin)
	for _, node := range b.nodes {
		status := b.onNode(t, node, "cat /proc/"+theDaemon+"/status")
		for _, line := range []string{"CapPrm:\t" + want, "CapEff:\t" + want, "CapBnd:\t" + want, "CapInh:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(status, "\n"+line+"\n") {
				t.Errorf("neighpin's process on node %s lacks %q in\n%s", node, line, status)
			}
		}
	}
}

// testSandboxed leaves a pod on each node, which goes on being pinned through all that follows.
func testSandboxed(t *testing.T, b *bed) {
	for _, node := range b.nodes {
		b.apply(t, b.manifest(b.witness(node)))
	}
	for _, node := range b.nodes {
		p := b.ready(t, b.witness(node))
		record := b.settled(t, p)
		if record.Timing.Verdict != "inTime" || len(record.Neighbors) < len(p.Status.PodIPs) {
			t.Errorf("%s: want a gateway of each family of %v pinned in time; its record is %+v", p, p.Status.PodIPs, record)
		}
		b.knock(t, p, record.gateways()...)
		t.Logf("%s: %d gateways pinned %.1f ms before gVisor took the namespace's addresses", p, len(record.Neighbors), record.Timing.MarginMs)
	}
}

// testProven asks others than neighpin about the pods of testSandboxed.
func testProven(t *testing.T, b *bed) {
	for _, node := range b.nodes {
		p := b.pod(t, home, b.witness(node).name)
		b.proveByOthers(t, p, b.settled(t, p))
	}
}

func (b *bed) witness(node string) wish {
	return wish{name: "witness-" + node, runtimeClass: b.runtimeClass, node: node}
}

// gateways are those of the pods of a node, as its witness has them.
func (b *bed) gateways(t *testing.T, node string) []string {
	t.Helper()
	return b.settled(t, b.pod(t, home, b.witness(node).name)).gateways()
}

func testPlain(t *testing.T, b *bed) {
	node := b.nodes[1]
	untouched := b.run(t, wish{name: "plain", node: node})
	// It comes second, so that neighpin has had its time with the first; and shows that these checks can fail.
	asking := b.run(t, wish{name: "asking", node: node, annotations: map[string]string{"neighpin.io/pin": "true"}})
	record, end := b.settled(t, asking), b.hostEnd(t, asking)
	checkNeighbors(t, asking, end, record)
	b.checkSilent(t, asking, end)
	entries := b.permanent(t, asking)
	for _, n := range record.Neighbors {
		if !strings.Contains(entries, n.Dst+" dev eth0 lladdr "+n.LLAddr+" PERMANENT") {
			t.Errorf("%s: gateway %s: its namespace lacks a permanent entry with %s; it has\n%s", asking, n.Dst, n.LLAddr, entries)
		}
	}
	if entries := b.permanent(t, untouched); entries != "" {
		t.Errorf("%s: without RuntimeClass, its namespace has permanent entries:\n%s", untouched, entries)
	}
	for key, value := range b.ociAnnotations(t, untouched) {
		if strings.Contains(key, "neighpin") {
			t.Errorf("%s: without RuntimeClass, its container has the annotation %s: %s", untouched, key, value)
		}
	}
	b.checkHeard(t, untouched)
	b.notKnown(t, untouched)
	b.remove(t, untouched, asking)
	b.forgotten(t, asking)
}

// notKnown checks that neighpin has nothing to do with a pod.
func (b *bed) notKnown(t *testing.T, p pod) {
	t.Helper()
	all := b.records(t)
	if record, ok := all[p.Metadata.Namespace+"/"+p.Metadata.Name]; ok {
		t.Errorf("%s: neighpin has a record of it: %+v", p, record)
	}
}

// config is what the rest of the steps run with.
func config() object {
	return object{"excludeNamespaces": []any{shunned}, "events": true, "metricsAddress": metricsAddress}
}

func testReconfigured(t *testing.T, b *bed) {
	before := b.records(t)
	b.install(t, config())
	b.kept(t, before)
}

// kept checks that neighpin says of pods what it said before.
func (b *bed) kept(t *testing.T, before map[string]sandbox) {
	t.Helper()
	b.await(t, "neighpin to say of pods what it said before", func() error {
		now, err := b.status()
		if err != nil {
			return err
		}
		var errs []error
		for name, was := range before {
			if is, ok := now[name]; !ok || is.ID != was.ID || fmt.Sprint(is.Timing, is.gateways(), is.Annotated) != fmt.Sprint(was.Timing, was.gateways(), was.Annotated) {
				errs = append(errs, fmt.Errorf("record of pod %s is now %+v, was %+v", name, is, was))
			}
		}
		return errors.Join(errs...)
	})
}

func testExcluded(t *testing.T, b *bed) {
	p := b.run(t, wish{name: "excluded", namespace: shunned, runtimeClass: b.runtimeClass, node: b.nodes[0]})
	// That neighpin has had its time with the first.
	after := b.run(t, wish{name: "after-excluded", runtimeClass: b.runtimeClass, node: b.nodes[0]})
	b.provePinned(t, after)
	b.notKnown(t, p)
	if b.own != nil {
		b.exceptUnpinned(t)
		if _, ok := b.ociAnnotations(t, p)[annotationKey]; ok {
			t.Errorf("%s: its namespace is excluded, and its container has the annotation %s", p, annotationKey)
		}
		b.checkHeard(t, p)
	}
	b.remove(t, p, after)
}
