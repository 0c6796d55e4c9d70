// SPDX-License-Identifier: Apache-2.0

// Package neighbor finds the gateways of a network namespace, takes their
// link-layer addresses from what the host itself knows, and pins them as
// permanent entries in the namespace's neighbor tables.
//
// A [Table] is bound to one namespace. [Table.Resolve] only reads and says what
// there is to pin and what is not pinned for which reason. [Table.Pin] writes that,
// [Table.Verify] says how the table differs from it, and [Table.Release] takes it back.
// A runtime needs no more than these, with the zero [Query].
//
// The rest is for who follows a namespace for as long as it lives, as neighpin's daemon
// does. [Watch] tells what happens to its links, addresses, routes and neighbors.
// [WatchHost] tells what happens around it, by the number that [NSID] gives a namespace, and
// [Resolution.Basis] and [Resolution.Sought] whom that concerns. [Table.Write] makes the
// table agree with another answer, and [Table.Review] judges one for a sandbox whose
// runtime has taken the routes. [Readings] are shared by the looks at many namespaces;
// [LeadsInto] and [LeadsOut] tell of a link whether it is a sandbox's still.
//
// Resolve never learns an address by asking: an answer to ARP or to a neighbor
// solicitation can be forged by anybody on the segment, and a permanent entry
// that is wrong neither heals nor gives an error. See [Source] for where
// addresses come from instead. A caller that prefers an answer of that kind to
// none asks what Resolve did not know ([Resolution.Unknown], package probe), and gives
// the outcome to the next Resolve.
//
// The walk of one gateway, by files: its route is read (gateways.go), then its link with
// the entry that is there (resolve.go), then what the link leads to on the host (survey.go,
// segment.go); that is weighed against the entry and against what the caller knows
// (truth.go), and becomes a [Neighbor] or a [Skipped] of the [Resolution]. Of that
// [Table.Write] pins what is missing and releases what is not true any more (write.go,
// by way of pin.go). Messages of the kernel are read and written by package rtnetlink,
// which decides nothing.
//
// A request does not end by cancelling its context while the kernel works on it:
// between two answers it does, and while it waits for one that was lost, soon
// after.
//
// Facts about the kernel cite its source, as of Linux 6.18.
package neighbor
