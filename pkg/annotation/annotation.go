// SPDX-License-Identifier: Apache-2.0

// Package annotation reads and writes the OCI annotation that carries a pod's
// pinned neighbors to a runtime that builds a network namespace of its own.
//
// It is pure: no system calls, no clock, no state, and nothing but the standard
// library, so that a runtime can import it at no cost. Its format is described
// for readers in other languages in docs/annotation.md and
// docs/annotation.schema.json.
//
// The value travels through places a pod can write to (a pod may bring a key of
// the same name), so [Parse] treats it as hostile: it takes the canonical form
// and nothing else, and its errors never repeat more than a short, quoted piece
// of the input.
package annotation

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Key is the name of the annotation in an OCI config.json.
const Key = "io.neighpin.neighbors"

// Version is the version of the format this package writes, and the only one it
// reads. It changes when a reader of the old form would misread the new one.
const Version = 1

const (
	// MaxBytes is the size of the largest value that [Parse] looks at. Whatever
	// [Annotation.Marshal] writes is smaller.
	MaxBytes = 64 << 10

	// MaxNeighbors is how many neighbors one annotation can hold.
	MaxNeighbors = 256

	// StatePermanent is the only state an entry has on the wire: the word that
	// `ip neigh` uses for NUD_PERMANENT.
	StatePermanent = "PERMANENT"

	// maxDev is IFNAMSIZ (linux/if.h) without the terminating zero.
	maxDev = 15
)

// Source says what an entry's link-layer address was taken from. It informs
// people; no reader needs to act on it.
type Source string

// The sources of version 1. A reader of version 1 knows all of them, whether or
// not the writer it meets can already produce them.
const (
	// SourcePeer is the other end of the sandbox's veth.
	SourcePeer Source = "peer"
	// SourcePort is the sandbox's own port of a Linux bridge that holds the
	// gateway's address.
	SourcePort Source = "port"
	// SourceHost is another link of the host that holds the gateway's address.
	SourceHost Source = "host"
	// SourceExisting is a permanent entry that somebody else had set before.
	SourceExisting Source = "existing"
	// SourceLearned is the answer of the gateway itself.
	SourceLearned Source = "learned"
)

var sources = [...]Source{SourcePeer, SourcePort, SourceHost, SourceExisting, SourceLearned}

// HardwareAddr is a six-byte link-layer address in the form of the wire:
// aa:bb:cc:dd:ee:ff, in lower case.
type HardwareAddr string

// Entry is one pinned neighbor. Its state is [StatePermanent] by definition: an
// entry in any other state is no pin and has no place in an annotation.
type Entry struct {
	// Dst is the neighbor's address: unicast, without a zone (the link of a
	// link-local address is Dev) and not IPv4-mapped.
	Dst netip.Addr
	// Dev is the link inside the sandbox's namespace.
	Dev string
	// LLAddr is the neighbor's link-layer address: unicast and not zero.
	LLAddr HardwareAddr
	// Source says where LLAddr comes from.
	Source Source
}

// Annotation is the decoded value: what stood pinned in one network namespace at
// one moment. The zero value is not valid. Its methods do not change it, so they
// may run concurrently.
type Annotation struct {
	// Cookie is the namespace's cookie (SO_NETNS_COOKIE, socket(7)): unique on a
	// node until it boots again, and never 0.
	Cookie uint64
	// CapturedAt is since when the neighbors are as they are, to the nanosecond.
	CapturedAt time.Time
	// Neighbors may be empty: the sandbox was looked at and nothing is pinned.
	// No two entries have both Dst and Dev in common.
	Neighbors []Entry
}

// SameNeighbors reports whether both annotations say the same of the same
// namespace: equal cookies and, in any order, the same dst, dev and lladdr. When
// and from which source they were captured does not matter. Two nil pointers are
// the same.
func (a *Annotation) SameNeighbors(b *Annotation) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Cookie != b.Cookie || len(a.Neighbors) != len(b.Neighbors) {
		return false
	}
	return slices.EqualFunc(a.sorted(), b.sorted(), func(x, y Entry) bool {
		return x.Dst == y.Dst && x.Dev == y.Dev && x.LLAddr == y.LLAddr
	})
}

// sorted returns a copy of the neighbors in the order of the wire: by dev, dst
// and lladdr.
func (a *Annotation) sorted() []Entry {
	entries := slices.Clone(a.Neighbors)
	slices.SortFunc(entries, func(x, y Entry) int {
		if c := cmp.Compare(x.Dev, y.Dev); c != 0 {
			return c
		}
		if c := x.Dst.Compare(y.Dst); c != 0 {
			return c
		}
		return cmp.Compare(x.LLAddr, y.LLAddr)
	})
	return entries
}
