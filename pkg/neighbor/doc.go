// SPDX-License-Identifier: Apache-2.0

// Package neighbor finds the gateways of a network namespace, takes their
// link-layer addresses from what the host itself knows, and pins them as
// permanent entries in the namespace's neighbor tables.
//
// A [Table] is bound to one namespace. [Table.Resolve] only reads and says what
// there is to pin and what is not pinned for which reason. [Table.Write] makes the
// table agree with its answer, by [Table.Pin] and [Table.Release]; [Table.Verify] says
// how it differs, and [Table.Review] judges the answer again for a sandbox whose runtime
// has taken the routes. [Watch] tells what happens to the namespace's links, addresses,
// routes and neighbors, [WatchHost] what happens around it.
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
