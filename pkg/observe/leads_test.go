// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"net"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// What the engine gives to Observe. It is about the process's own namespace, which
// is one made for the tests here.
func TestALinkLeadsIntoANamespace(t *testing.T) {
	host, pod, other := nstest.Own(t), nstest.New(t), nstest.New(t)
	host.Veth("leads0", pod, "eth0")
	host.IP("link add leads1 type bridge", "link add leads2 type veth peer name leads3")
	t.Cleanup(func() {
		_, _ = host.TryIP("link del leads0")
		_, _ = host.TryIP("link del leads1")
		_, _ = host.TryIP("link del leads2")
	})
	number := func(name string) int {
		l, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.Index
	}
	pair := number("leads0")
	for name, c := range map[string]struct {
		index int
		ns    *nstest.NS
		want  bool
	}{
		"its other end":                  {pair, pod, true},
		"another's":                      {pair, other, false},
		"its own":                        {pair, host, false},
		"a link that is no pair":         {number("leads1"), pod, false},
		"a pair within":                  {number("leads2"), pod, false},
		"a pair within, asked of itself": {number("leads2"), host, false},
		"a number that no link has":      {1 << 30, pod, false},
	} {
		if got, err := neighbor.LeadsInto(t.Context(), c.index, c.ns.NS); err != nil || got != c.want {
			t.Errorf("%s: %t, %v; want %t", name, got, err, c.want)
		}
	}
	pod.IP("link set eth0 netns " + other.Ref())
	for ns, want := range map[*nstest.NS]bool{pod: false, other: true} {
		if got, err := neighbor.LeadsInto(t.Context(), pair, ns.NS); err != nil || got != want {
			t.Errorf("after the link moved: %t, %v; want %t", got, err, want)
		}
	}
	closed := nstest.New(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := neighbor.LeadsInto(t.Context(), pair, closed.NS); err == nil {
		t.Error("a namespace that is closed was judged")
	}
}
