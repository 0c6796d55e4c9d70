// SPDX-License-Identifier: Apache-2.0

// Package rtnetlink speaks route netlink: requests and notifications about links,
// addresses, routes, neighbor entries and the numbers of namespaces. Messages come
// in, and typed values go out; nothing is decided here.
//
// A [Conn] asks, in the namespace that it was made in or in one that has a number
// there, and gives answers whole or not at all: a dump that changes interrupt is
// started over, an answer that had no room is asked for again, and what is longer
// than the kernel lists is an error. A [Listener] hears what happens, and says so
// when it has missed something.
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
// from (nl_linux.go).
//
// A request does not end by cancelling its context while the kernel works on it:
// between two answers it does, and while it waits for one that was lost, soon
// after.
//
// Refusals are the kernel's numbers ([golang.org/x/sys/unix.Errno]), with its own
// words where it has some. Facts about the kernel cite its source, as of Linux
// 6.18, and facts about the library are those of its version 1.3.1.
package rtnetlink
