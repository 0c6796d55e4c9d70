// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// questions is who asked for whom on the link of one pod.
type questions struct {
	arp, ns int // by the pod, for its gateways
	host    int // by the host, for the pod's addresses
}

// confirming is when the kernel begins to confirm entries that it has used, less than its delay_first_probe_time, which is five seconds:
// later questions are no part of a first connection.
const confirming = 2 * time.Second

// asked counts the questions on the host's end of a pod's link so far.
func (b *bed) asked(a *attempt) (q questions) {
	link := a.pod.HostLink
	q.arp = len(b.capture.Messages(wire.Asks(link, time.Time{}, a.network.gateway4)))
	q.ns = len(b.capture.Messages(wire.Asks(link, time.Time{}, a.network.gateway6)))
	for _, m := range b.capture.Messages(wire.Query{Link: link, Targets: a.pod.Addresses, Kinds: []wire.Kind{wire.ARPRequest, wire.Solicitation}}) {
		if !m.Incoming && m.Time.Before(a.until.Add(confirming)) {
			q.host++
		}
	}
	return q
}

// check says what is wrong with pods that are not what they are measured as: of one whose pins were in time, gVisor has both gateways from
// the namespace, and it has not asked for them; one that is to be left alone has asked for each, as often as its network has it. A pod
// whose pins were late, or may have been, is marked as such.
func (b *bed) check(ctx context.Context, attempts []*attempt) error {
	records := map[string]node.Sandbox{}
	err := await.Within(ctx, patience, "neighpin's verdict on all pods", func() error {
		for _, daemon := range b.daemons {
			status, err := daemon.Status(ctx)
			if err != nil {
				return err
			}
			for _, s := range status.Sandboxes {
				records[s.ID] = s
			}
		}
		for _, a := range attempts {
			if r := records[a.pod.ID]; a.pinned && (r.Phase != "started" || r.Timing.Verdict == "pending") {
				return fmt.Errorf("pod %s is %q, its verdict %q", a.pod.Name, r.Phase, r.Timing.Verdict)
			} else if a.network.namespace == returning && len(r.ReturnPath) < len(a.pod.Addresses) {
				return fmt.Errorf("the host knows %v of pod %s, which has %v: %+v", r.ReturnPath, a.pod.Name, a.pod.Addresses, r)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range attempts {
		if err := b.checkOne(a, records[a.pod.ID]); err != nil {
			return fmt.Errorf("check pod %s on %s, pinned: %t: %w", a.pod.Name, a.network.name, a.pinned, err)
		}
	}
	return nil
}

func (b *bed) checkOne(a *attempt, record node.Sandbox) error {
	copied, err := a.pod.Copied()
	if err != nil {
		return err
	}
	q := b.asked(a)
	if !a.pinned {
		if len(copied) != 0 || q.arp < a.network.questions || q.ns < a.network.questions {
			return fmt.Errorf("gVisor took %v, and the pod asked %+v; want none, and at least %d for each gateway:\n%s", copied, q, a.network.questions,
				wire.Format(b.capture.Messages(wire.Query{Link: a.pod.HostLink})))
		}
		return nil
	}
	switch verdict := record.Timing.Verdict; verdict {
	case "inTime":
	case "late", "unproven":
		a.late = true
		return nil
	default:
		return fmt.Errorf("the verdict is %q: %s", verdict, record.Error)
	}
	for _, gateway := range []netip.Addr{a.network.gateway4, a.network.gateway6} {
		if copied[gateway] == "" {
			return fmt.Errorf("gVisor took %v, without %s", copied, gateway)
		}
	}
	if q.arp+q.ns != 0 {
		return fmt.Errorf("the pod asked for its gateways: %+v:\n%s", q, wire.Format(b.capture.Messages(wire.Query{Link: a.pod.HostLink})))
	}
	return nil
}
