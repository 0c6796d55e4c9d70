// SPDX-License-Identifier: Apache-2.0

// Package repair measures how long it takes until all pods of a node have the right address again after that of the gateway which
// they share has changed, and what NRI's answers cost meanwhile.
//
// Pods are real namespaces, each with a veth to a port of one bridge. Their gateways, of both families, are on a link of the node beside
// that bridge, whose address changes: so it is with a VLAN's own link on a bridge, or a router's. neighpin is the product's
// binary in a process of its own, with its records on disk; NRI's adaptation, which is the code that containerd runs, asks it
// from this process. There is no containerd, and no container is in the pods.
//
// It runs in an enclosure, whose namespace stands for the node's.
package repair
