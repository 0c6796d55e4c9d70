// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/guard"
	"github.com/neighpin/neighpin/pkg/record"
)

// hide takes the directory of namespaces out of sight, as an unmount of it does; show brings it back.
func (n *node) hide() (show func()) {
	n.t.Helper()
	away := n.netnsDir + ".away"
	if err := os.Rename(n.netnsDir, away); err != nil {
		n.t.Fatal(err)
	}
	return func() {
		n.t.Helper()
		if err := os.Rename(away, n.netnsDir); err != nil {
			n.t.Fatal(err)
		}
	}
}

// A directory that nobody can see for a while is no proof that its namespaces have ended: what was known stays, and what happened meanwhile is mended
// when it is back.
func TestDirectoryOutOfSightForgetsNobody(t *testing.T) {
	for name, restart := range map[string]bool{"while the daemon runs": false, "while it starts": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			p := n.running()
			mac := n.outside.MAC("veth0")
			if restart {
				n.engine.Close()
			}
			show := n.hide()
			if restart {
				n.start()
			}
			p.IP("neigh del " + gateway4 + " dev eth0")
			n.slowly()
			n.eventually("everything to be compared", func() bool { return n.idle() })
			n.engine.bury()
			if rec := n.record(); rec.ID == "" || n.log.count(record.KindReleased) != 0 {
				t.Fatalf("forgotten: %+v", rec)
			}
			if _, err := n.engine.records.Load(podID); err != nil {
				t.Fatal(err)
			}
			show()
			n.eventually("the pin to be put back", func() bool { return strings.Contains(p.permanent(), gateway4+" dev eth0 lladdr "+mac) })
			n.settled(podID)
			// The control: the namespace's end is still seen.
			p.remove()
			n.eventually("the sandbox to be forgotten", func() bool { return n.record().ID == "" && n.log.count(record.KindReleased) == 1 })
		})
	}
}

// The other way round: the file goes for good, and the namespace later. Its end is told by its link's.
func TestNamespaceThatOutlivesItsFileIsForgottenWhenItEnds(t *testing.T) {
	n := newNode(t)
	p := n.running()
	if err := nstest.Unmount(p.rec.NetNSPath); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.rec.NetNSPath); err != nil {
		t.Fatal(err)
	}
	n.slowly()
	n.eventually("everything to be compared", func() bool { return n.idle() })
	if n.record().ID == "" {
		t.Fatal("forgotten while its link was there")
	}
	n.outside.IP("link del veth0")
	n.eventually("the sandbox to be forgotten", func() bool { return n.record().ID == "" && n.log.count(record.KindReleased) == 1 })
}

// Whether a namespace has ended is asked of the kernel, which answers when nobody
// else works on links. Pods that start meanwhile are found all the same.
func TestPodsThatEndDoNotHoldUpThoseThatStart(t *testing.T) {
	n := newNode(t)
	p := n.running()
	for range tenders {
		n.engine.mourning <- struct{}{}
	}
	p.remove()
	next := n.newPodAs("next", "runsc", typeRunc)
	n.veth(next.NS, "veth1")
	next.IP("address add 10.88.0.3/24 dev eth0", "route add default via "+gateway4)
	next.listed().ready()
	n.eventually("the next pod to be pinned", func() bool { return len(n.recordOf("next").Neighbors) > 0 })
	// A comparison may have found the other's end by itself.
	for range tenders {
		<-n.engine.mourning
	}
	n.eventually("the pod that ended to be forgotten", func() bool { return n.record().ID == "" && n.log.count(record.KindReleased) == 1 })
}

// idle tells whether nothing waits to be compared.
func (n *node) idle() bool {
	return !slices.ContainsFunc(n.engine.guard.Wards(), func(w *guard.Ward) bool {
		state, _ := n.engine.guard.State(w)
		return state.Due
	})
}

// A pod's link is made anew. Its routes come later, of which nothing tells, or the runtime has them, and the address may be the one that it was:
// where the link leads to is known at once, in memory and on disk, since that end says whether the namespace lives, and what is asked there is
// counted.
func TestWhereANewLinkLeadsToIsKnown(t *testing.T) {
	for name, begin := range map[string]func(*node) *pod{"the kernel's stack": (*node).running, "a copy": (*node).taken} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			p := begin(n)
			mac, before := n.outside.MAC("veth0"), p.permanent()
			n.outside.IP("link del veth0", "link add veth0 address "+mac+" type veth peer name new0", "link set veth0 up", "link set new0 netns "+p.Ref()+" name eth0")
			t.Cleanup(func() { _, _ = n.outside.TryIP("link del veth0") })
			p.IP("link set eth0 up")
			n.eventually("the end of the new link to be known", func() bool {
				disk, err := n.engine.records.Load(podID)
				link := n.outside.Output("-o", "link", "show", "veth0")
				return err == nil && !slices.ContainsFunc([]record.Record{n.record(), disk}, func(r record.Record) bool {
					return !strings.HasPrefix(link, fmt.Sprintf("%d: ", r.Ends["eth0"]))
				})
			})
			if name == "the kernel's stack" {
				n.eventually("the pins to be back", func() bool { return p.permanent() == before })
			}
		})
	}
}

// A pod that may rename its links fills the record with no names.
func TestNamesThatAPodGivesItsLinkDoNotFillTheRecord(t *testing.T) {
	n := newNode(t)
	p := n.running()
	for i := range 5 {
		p.IP("link set eth0 down", fmt.Sprint("link set eth0 name x", i), fmt.Sprint("link set x", i, " up"),
			fmt.Sprint("address replace 10.88.0.2/24 dev x", i), fmt.Sprint("route replace default via "+gateway4+" dev x", i))
		n.settled(podID)
		p.IP("link set "+fmt.Sprint("x", i)+" down", fmt.Sprint("link set x", i, " name eth0"), "link set eth0 up")
		n.settled(podID)
	}
	if ends := n.record().Ends; len(ends) != 1 || ends["eth0"] == 0 {
		t.Errorf("the record knows the ends of %v, want eth0 alone", ends)
	}
}
