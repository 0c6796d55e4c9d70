// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
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
		return nil, fmt.Errorf("read addresses of %s: %w", printable(t.path), err)
	}
	links := make(map[int]link)
	err = t.conn.dump(ctx, linksRequest(nsidNone), func() { clear(links) }, func(body []byte) error {
		l, err := parseLink(body)
		if err == nil && len(links) < limit && !l.loopback() && !l.noARP() && l.lladdr.IsUnicast() && isPlain(l.name) {
			links[l.index] = l
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read links of %s: %w", printable(t.path), err)
	}
	var list []Address
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		before := list
		err = t.conn.dump(ctx, addrsRequest(family, 0, nsidNone), func() { list = before }, func(body []byte) error {
			a, err := parseAddr(body)
			l, ok := links[a.index]
			if err != nil || !ok || len(list) >= limit || a.flags&unix.IFA_F_DADFAILED != 0 || !isTarget(a.ip) {
				return err
			}
			address := Address{Addr: a.ip, Dev: l.name, LLAddr: l.lladdr}
			if host != nsidNone && l.hasNSID && l.nsid == host && (l.kind == kindVeth || l.kind == kindNetkit) {
				address.End = l.other
			}
			list = append(list, address)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read addresses of %s: %w", printable(t.path), err)
		}
	}
	return list, nil
}
