// SPDX-License-Identifier: Apache-2.0

// Package podstart measures what it takes to pin one pod: a fresh network namespace with a veth whose other end is
// on the node, a default route by an IPv4 and one by an IPv6 gateway. Every contender is given the path of such a namespace,
// which nobody has used before, and has done its work when both gateways have a permanent entry with the address of the
// veth's other end; that is checked after each round, outside the measured time.
//
// It runs in an enclosure, whose namespace stands for the node's.
package podstart
