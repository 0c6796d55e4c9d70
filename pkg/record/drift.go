// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// ReasonInsists says that somebody in the sandbox replaced the pin again and
// again. It joins the reasons of package neighbor.
const ReasonInsists neighbor.Reason = "Insists"

// ReasonNoAnswer says that nobody answered for a gateway that only asking could
// find. It joins the reasons of package neighbor.
const ReasonNoAnswer neighbor.Reason = "NoAnswer"

// ReasonConflict says that more than one station claims a gateway that only
// asking could find. It joins the reasons of package neighbor.
const ReasonConflict neighbor.Reason = "Conflict"

// Stale is a copy that a runtime took of a pin and that is not true any more.
type Stale struct {
	Dst netip.Addr `json:"dst"`
	Dev string     `json:"dev"`
	// Copied is what the runtime has, and Source where that came from.
	Copied neighbor.HardwareAddr `json:"copied"`
	Source neighbor.Source       `json:"source"`
	// LLAddr is what is true now; empty when nothing is, for Reason.
	LLAddr neighbor.HardwareAddr `json:"lladdr,omitempty"`
	Reason neighbor.Reason       `json:"reason,omitempty"`
	// Since is when that was found.
	Since time.Time `json:"since"`
}

// Gateway is the one whose copy it is.
func (s Stale) Gateway() neighbor.Gateway { return neighbor.Gateway{Dst: s.Dst, Dev: s.Dev} }

// Same tells whether both say the same of the same copy, whenever it was found.
func (s Stale) Same(o Stale) bool {
	return s.Gateway() == o.Gateway() && s.Copied == o.Copied && s.LLAddr == o.LLAddr && s.Reason == o.Reason
}

// Copied are the neighbors that the runtime has: those of the record, but where
// these were corrected since.
func (r Record) Copied() []neighbor.Neighbor {
	var list []neighbor.Neighbor
	for _, n := range r.Neighbors {
		if !slices.ContainsFunc(r.Stale, func(s Stale) bool { return s.Gateway() == n.Gateway() }) {
			list = append(list, n)
		}
	}
	for _, s := range r.Stale {
		list = append(list, neighbor.Neighbor{Dst: s.Dst, Dev: s.Dev, LLAddr: s.Copied, Source: s.Source,
			Family: neighbor.FamilyOf(s.Dst), State: []string{annotation.StatePermanent}})
	}
	return list
}

// Doubt is what speaks against a gateway that was, or is to be, learned by asking.
type Doubt struct {
	Dst netip.Addr `json:"dst"`
	Dev string     `json:"dev"`
	// Reason is ReasonConflict or ReasonNoAnswer.
	Reason neighbor.Reason `json:"reason"`
	// Claims are the stations that claim the gateway, with ReasonConflict.
	Claims []neighbor.HardwareAddr `json:"claims,omitempty"`
	// Since is when that was found.
	Since time.Time `json:"since"`
}

// Gateway is the one that it is about.
func (d Doubt) Gateway() neighbor.Gateway { return neighbor.Gateway{Dst: d.Dst, Dev: d.Dev} }

// Same tells whether both say the same of the same gateway, whenever it was found.
func (d Doubt) Same(o Doubt) bool { return d.Gateway() == o.Gateway() && d.Reason == o.Reason }
