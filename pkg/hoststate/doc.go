// SPDX-License-Identifier: Apache-2.0

// Package hoststate finds what others left on the host for the addresses of a
// pod: neighbor entries, and rules of the bridge family, that name a link-layer
// address which is not the pod's and which nobody has. [Look] only reads, [Clean]
// removes exactly what Look finds, and says how to put it back. [SetReturnPath]
// writes the way back to a pod, which nobody has to ask for then.
//
// Everything happens in the namespace of this process.
//
// Rules are read from netfilter's own netlink family, by a parser of this package:
// github.com/google/nftables leaves out expressions that it does not know
// (expr/expr.go, exprFromName), so that a rule seems to say less than it does, and
// a rule is only removed here when every word of it is understood. Facts about the
// kernel are of Linux 6.18.
package hoststate
