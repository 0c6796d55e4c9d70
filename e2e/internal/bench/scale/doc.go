// SPDX-License-Identifier: Apache-2.0

// Package scale measures the daemon with up to ten thousand sandboxes: what it holds in memory, what it does when nothing
// happens, how long it takes to start and to be synchronized, and what one event costs.
//
// The daemon is the product's binary, a process of its own. The namespaces are real, each with a veth, an IPv4 and an IPv6
// gateway; the host's ends are in a namespace that stands for the node's, and the daemon runs in it. The runtime is the
// code by which containerd itself serves NRI (github.com/containerd/nri/pkg/adaptation), in this process. There are no
// containers, and no sandbox store: so the daemon knows of a pod what NRI tells, and nothing shows when a runtime read
// a namespace ("unproven" is the right verdict).
//
// It runs in an enclosure.
package scale
