// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Address is an IP address of a sandbox.
type Address struct {
	Addr netip.Addr `json:"addr"`
	// Dev is the link inside the sandbox that has it, LLAddr that link's own
	// link-layer address.
	Dev    string       `json:"dev"`
	LLAddr HardwareAddr `json:"lladdr"`
	// End is the number of the link's other end in the host's namespace; zero when
	// it has none there.
	End int `json:"end,omitempty"`
}

// Addresses lists the sandbox's own addresses, at most limit of them, of links
// that have a link-layer address. Those of the loopback, and those that somebody
// else was found to have (IFA_F_DADFAILED), are left out. It reads only, and a
// runtime that has taken the addresses leaves none to be read.
func (t *Table) Addresses(ctx context.Context, limit int) ([]Address, error) {
	host, err := t.hostNumber(ctx)
	if err != nil {
		return nil, fmt.Errorf("read addresses of %s: %w", plain.Text(t.path), err)
	}
	links := make(map[int]rtnetlink.Link)
	err = t.conn.Links(ctx, rtnetlink.NSIDNone, func() { clear(links) }, func(l rtnetlink.Link) {
		if len(links) < limit && !l.Loopback() && !l.NoARP() && HardwareAddr(l.LLAddr).IsUnicast() && plain.Is(l.Name) {
			links[l.Index] = l
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read links of %s: %w", plain.Text(t.path), err)
	}
	var list []Address
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		before := list
		err = t.conn.Addrs(ctx, family, 0, rtnetlink.NSIDNone, func() { list = before }, func(a rtnetlink.Addr) {
			l, ok := links[a.Index]
			if !ok || len(list) >= limit || a.Taken() || !isTarget(a.IP) {
				return
			}
			address := Address{Addr: a.IP, Dev: l.Name, LLAddr: HardwareAddr(l.LLAddr)}
			if host != rtnetlink.NSIDNone && l.HasNSID && l.NSID == host && l.Pair() {
				address.End = l.Other
			}
			list = append(list, address)
		})
		if err != nil {
			return nil, fmt.Errorf("read addresses of %s: %w", plain.Text(t.path), err)
		}
	}
	return list, nil
}
