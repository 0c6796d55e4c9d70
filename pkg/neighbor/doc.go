// SPDX-License-Identifier: Apache-2.0

// Package neighbor finds the gateways of a network namespace, takes their
// link-layer addresses from what the host itself knows, and pins them as
// permanent entries in the namespace's neighbor tables.
//
// A [Table] is bound to one namespace. [Table.Resolve] only reads and says what
// there is to pin and what is not pinned for which reason; [Table.Pin],
// [Table.Verify] and [Table.Release] act on its answer, and [Table.Review] judges
// it again for a sandbox whose runtime has taken the routes. [Watch] tells what
// happens to the namespace's links, addresses, routes and neighbors, [WatchHost]
// what happens around it. [Host] reads what the host's own tables say about addresses
// of sandboxes, for package hoststate.
//
// Resolve never learns an address by asking: an answer to ARP or to a neighbor
// solicitation can be forged by anybody on the segment, and a permanent entry
// that is wrong neither heals nor gives an error. See [Source] for where
// addresses come from instead. A caller that prefers an answer of that kind to
// none has [Probe] ask what Resolve did not know, and gives the outcome to Resolve.
//
// Requests are written and answers are read here, and not by
// github.com/vishvananda/netlink, since a pod's start waits for them: the library
// takes three system calls and a buffer of 64 KiB for each request and reads all
// attributes that there are, which made a pod take twice as long. Its readers also
// skip RTA_NH_ID (route_linux.go, deserializeRoute), skip NDA_PROTOCOL and ask the
// kernel in the midst of reading (neigh_linux.go, NeighDeserialize), and panic at
// wrong lengths. A bridge's VLANs, of which no pod's start is in a hurry, are read
// by it, and the tests compare what is read of links and routes with what it reads.
//
// Its subscriptions (NeighSubscribe and the like) end at ENOBUFS and have a socket
// and a goroutine for each kind of event, so that the order between kinds is lost,
// and its Receive drops the control message that says which namespace an event is
// from (nl_linux.go); [Watcher] and [HostWatcher] have a socket of their own.
//
// A request does not end by cancelling its context while the kernel works on it:
// between two answers it does, and while it waits for one that was lost, soon
// after.
//
// Facts about the kernel cite its source, as of Linux 6.18, and facts about the
// library are those of its version 1.3.1.
package neighbor
