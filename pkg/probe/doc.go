// SPDX-License-Identifier: Apache-2.0

// Package probe asks on the wire who has a gateway's IP address, where the host does
// not know: frames of ARP and neighbor discovery go out, and what stations claim comes
// back. Nothing protects such answers, so that they are used only where an operator
// wants them, and never where package neighbor knows better: it names the questions
// ([neighbor.Resolution]), and takes the answers ([neighbor.Query]).
//
// The kernel takes no part: no netlink, no neighbor table, no address. Everything
// needs CAP_NET_RAW. Facts about the kernel are of Linux 6.18.
package probe
