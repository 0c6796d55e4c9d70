// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testUserNamespace finds out what becomes of pods with hostUsers: false, and that neighpin keeps up with it: a sandbox that
// runs is pinned in time, whatever becomes of its container, and of one that cannot start nothing is left.
//
// With what is on the node neither becomes a running pod: gVisor's runtime cannot join a user namespace by its path, which
// it does not tell the kubelet beforehand, and runc 1.1 cannot mount volumes with mapped ids, which the kubelet knows.
func testUserNamespace(t *testing.T, b *bed) {
	for _, w := range []wish{
		{name: "userns-gvisor", runtimeClass: b.runtimeClass, node: b.nodes[0], userNamespace: true},
		{name: "userns-runc", node: b.nodes[0], userNamespace: true, annotations: map[string]string{"neighpin.io/pin": "true"}},
	} {
		b.apply(t, b.manifest(w))
		refusal := b.refusal(t, w.name)
		p := b.pod(t, home, w.name)
		all := b.records(t)
		record, known := all[home+"/"+w.name]
		switch {
		case refusal == "":
			b.settled(t, p)
			t.Logf("%s runs in a user namespace, pinned: %v, %s", p, record.gateways(), record.Timing.Verdict)
		case known && record.Phase == "started":
			t.Logf("%s has a sandbox with a user namespace, pinned: %v, %s; and no container: %s", p, record.gateways(), record.Timing.Verdict, refusal)
		default:
			t.Logf("%s does not start: %s", p, refusal)
		}
		if known && record.Phase == "started" && (record.Timing.Verdict != "inTime" || len(record.Neighbors) == 0) {
			t.Errorf("%s: want its gateways pinned in time; its record is %+v", p, record)
		}
		b.remove(t, p)
		b.forgotten(t, p)
		b.noNamespace(t, p)
	}
}

// refusal waits until the pod runs, or until there is a reason that it does not; that is the last words of its Event.
func (b *bed) refusal(t *testing.T, name string) (refusal string) {
	t.Helper()
	b.await(t, "pod "+name+" to run or to be refused", func() error {
		p := b.pod(t, home, name)
		if p.container().Ready {
			return nil
		}
		events, err := b.eventsOf(name)
		at := slices.IndexFunc(events, func(e event) bool { return strings.HasPrefix(e.Reason, "Failed") && e.Reason != "FailedScheduling" })
		if err != nil || at < 0 {
			return errors.Join(err, fmt.Errorf("it is %s %s, its events are %v", p.Status.Phase, p.Status.Reason, events))
		}
		refusal = events[at].Reason + ": " + events[at].Message
		return nil
	})
	return refusal
}

// noNamespace waits until a node holds no more namespaces of pods than there are pods in its network.
func (b *bed) noNamespace(t *testing.T, gone pod) {
	t.Helper()
	if b.own == nil {
		return
	}
	node := gone.Spec.NodeName
	b.await(t, "the namespaces of "+gone.String()+" to go", func() error {
		held, err := b.own.Node(b.ctx, node, nil, "ls", "/var/run/netns")
		if err != nil {
			return err
		}
		var here []string
		for _, namespace := range []string{home, shunned} {
			pods, err := b.pods(namespace, "--field-selector", "spec.nodeName="+node)
			if err != nil {
				return err
			}
			for _, p := range pods {
				here = append(here, p.Metadata.Name)
			}
		}
		if got := len(strings.Fields(held)); got != len(here) {
			err = fmt.Errorf("node %s holds %d namespaces, want those of the pods %v:\n%s", node, got, here, held)
		}
		return err
	})
}
