// SPDX-License-Identifier: Apache-2.0

// Package neighbor finds the gateways of a network namespace, takes their
// link-layer addresses from what the host itself knows, and pins them as
// permanent entries in the namespace's neighbor tables.
//
// A [Table] is bound to one namespace. [Table.Resolve] only reads and says what
// there is to pin and what is not pinned for which reason; [Table.Pin],
// [Table.Verify] and [Table.Release] act on its answer. [Watch] tells what
// happens to the namespace's links, addresses, routes and neighbors.
//
// An address is never learned by asking: an answer to ARP or to a neighbor
// solicitation can be forged by anybody on the segment, and a permanent entry
// that is wrong neither heals nor gives an error. See [Source] for where
// addresses come from instead.
//
// Netlink is spoken directly and not through a library, because the answers
// needed here carry attributes that the libraries drop: nexthop objects, the
// namespace of a link's other end, the owner's mark on an entry, a bridge's
// VLAN filter. Facts about the kernel cite its source, as of Linux 6.18.
package neighbor
