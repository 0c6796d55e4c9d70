// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Difference is an entry that is not as it should be.
type Difference struct {
	Dst    netip.Addr `json:"dst"`
	Dev    string     `json:"dev"`
	Family string     `json:"family"`
	Want   Value      `json:"want"`
	Got    Value      `json:"got"`
}

// Value is what an entry says.
type Value struct {
	LLAddr HardwareAddr `json:"lladdr,omitempty"` // empty: no address
	State  []string     `json:"state"`            // as in Neighbor
}

// Verify compares the kernel's entries with those wanted, each of which should
// be permanent and have the wanted address, whoever made it. It returns the
// differences, none if all is well. A link that is gone counts as an entry that
// is gone. The error is an *EntryError.
func (t *Table) Verify(ctx context.Context, want []Neighbor) ([]Difference, error) {
	links := t.newLinkCache()
	var diffs []Difference
	for _, n := range want {
		e, err := t.lookUp(ctx, links, n)
		if err != nil {
			return nil, &EntryError{Op: "verify", Dst: n.Dst, Dev: n.Dev, Err: err}
		}
		if e.Permanent() && HardwareAddr(e.LLAddr) == n.LLAddr {
			continue
		}
		diffs = append(diffs, Difference{Dst: n.Dst, Dev: n.Dev, Family: FamilyOf(n.Dst),
			Want: Value{LLAddr: n.LLAddr, State: []string{rtnetlink.StatePermanent}},
			Got:  Value{LLAddr: HardwareAddr(e.LLAddr), State: e.States()}})
	}
	return diffs, nil
}

func (t *Table) lookUp(ctx context.Context, links linkCache, n Neighbor) (rtnetlink.Entry, error) {
	if !n.Dst.IsValid() {
		return rtnetlink.Entry{}, errors.New("not an address")
	}
	index, err := links.index(ctx, n.Dev)
	if errors.Is(err, unix.ENODEV) {
		return rtnetlink.Entry{}, nil
	} else if err != nil {
		return rtnetlink.Entry{}, err
	}
	return t.conn.Entry(ctx, key{Dst: n.Dst.WithZone(""), Index: index})
}
