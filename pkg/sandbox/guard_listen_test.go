// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

// noise makes entries in a namespace that come and go, three messages each.
func noise(ns *nstest.NS, entries int) {
	var lines []string
	for i := range entries {
		dst := fmt.Sprintf("10.88.7.%d dev eth0", i+1)
		lines = append(lines, "neigh add "+dst+" lladdr "+foreignMAC+" nud permanent", "neigh del "+dst)
	}
	ns.IP(lines...)
}

// repaired has a pin removed and waits until it is back, and with it all messages from before were read.
func (n *node) repaired(p *pod) {
	n.t.Helper()
	p.IP("neigh del " + gateway4 + " dev eth0")
	n.eventually("the pin to be back", func() bool { return strings.Contains(p.permanent(), gateway4+" ") })
	n.settled(podID)
}

// What other neighbors do, of strangers and of the pod itself, is dropped by the kernel; what happens to a pin is heard.
func TestEntriesThatConcernNobodyAreNotHeard(t *testing.T) {
	const entries = 100
	n := newNode(t)
	p := n.running()
	stranger := nstest.New(t)
	n.veth(stranger, "veth9")
	n.repaired(p)
	before, looks := n.engine.Status().HostMessages, n.engine.Status().Looks[record.CauseEvent]
	noise(stranger, entries)
	noise(p.NS, entries)
	n.repaired(p)
	if heard := n.engine.Status().HostMessages - before; heard == 0 || heard > entries {
		t.Errorf("%d messages heard of the %d about others' entries, and those of one pin", heard, 6*entries)
	}
	if looked := n.engine.Status().Looks[record.CauseEvent] - looks; looked == 0 || looked > 4 {
		t.Errorf("looked %d times", looked)
	}
}

// A node whose pods have more gateways than the kernel can be told of hears of all entries, and repairs all the same.
func TestManyGatewaysAreHeardWithAllOthers(t *testing.T) {
	const entries = 100
	n := newNode(t)
	p := n.running()
	n.settled(podID)
	other := newSandbox(n.engine, record.Identity{NetNSPath: n.netnsDir + "/other"})
	other.update(func(r *record.Record) {
		for i := range neighbor.MaxEntries + 1 {
			r.Neighbors = append(r.Neighbors, neighbor.Neighbor{Dst: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})})
		}
	})
	n.engine.guard.Take(other.ward, guard.Event)
	n.engine.guard.Drop(other.ward)
	before := n.engine.Status().HostMessages
	noise(p.NS, entries)
	n.repaired(p)
	if heard := n.engine.Status().HostMessages - before; heard < 3*entries {
		t.Errorf("%d messages heard of %d", heard, 3*entries)
	}
}

// A watcher that cannot be told whose entries matter is given up for another one.
func TestAWatcherThatCannotBeToldIsGivenUp(t *testing.T) {
	watchers := make(chan *script, 2)
	bad, good := newScript(), newScript()
	watchers <- bad
	watchers <- good
	n := newNodeWith(t, func(n *node) {
		n.watch = func() (guard.HostWatcher, error) {
			select {
			case w := <-watchers:
				return w, nil
			default:
				return nil, errDown
			}
		}
	})
	n.eventually("the host to be heard", func() bool { return n.log.count(record.KindHost) == 1 })
	bad.deaf = unix.ENOMEM // read when the first sandbox is handed over
	n.running()
	<-bad.closed
	n.eventually("the host to be heard again", func() bool { return n.log.count(record.KindHost) == 3 })
	if err := n.log.last(record.KindHost).Err; err != nil || !n.engine.Status().HostHeard {
		t.Errorf("told %v", err)
	}
}
