// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// The file of a namespace can be out of sight while its pod runs; the host's end of its link cannot outlive it.
func TestASandboxIsGoneWhenNeitherItsFileNorItsLinkIsThere(t *testing.T) {
	host, pod := nstest.Own(t), nstest.New(t)
	pod.Veth("eth0", host, "vgone")
	host.IP("link add dgone type bridge")
	t.Cleanup(func() { _, _ = host.TryIP("link del dgone") })
	number := func(name string) int {
		t.Helper()
		link, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return link.Index
	}
	there, away := pod.Mount(), filepath.Join(t.TempDir(), "away")
	linked, astray := map[string]int{"eth0": number("vgone")}, map[string]int{"eth0": number("dgone")}
	look := func(path string, cookie uint64, ends map[string]int) Record {
		return Record{NetNS: NetNS{Path: path, Cookie: cookie}, Ends: ends}
	}
	for name, c := range map[string]struct {
		rec  Record
		gone bool
	}{
		"file and link are there":             {look(there, pod.Cookie(), linked), false},
		"the file is there, it had no link":   {look(there, pod.Cookie(), nil), false},
		"the link is there":                   {look(away, pod.Cookie(), linked), false},
		"another's namespace is at its path":  {look(there, pod.Cookie()+1, linked), false},
		"another's, and it had no link":       {look(there, pod.Cookie()+1, nil), true},
		"no file, and it had no link":         {look(away, pod.Cookie(), nil), true},
		"another's link has its link's place": {look(away, pod.Cookie(), astray), true},
		"it was never opened":                 {look(there, 0, nil), true},
	} {
		if got := c.rec.Gone(t.Context()); got != c.gone {
			t.Errorf("%s: gone %t", name, got)
		}
	}
	// What could not be asked is no end.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if look(away, pod.Cookie(), astray).Gone(ended) {
		t.Error("gone, and nobody was asked")
	}
	host.IP("link del vgone")
	if !look(away, pod.Cookie(), linked).Gone(t.Context()) {
		t.Error("not gone, and neither file nor link is there")
	}
}
