// SPDX-License-Identifier: Apache-2.0

// Package nritrip measures what a plugin costs the runtime at each event of NRI: the round trip through containerd/nri's own
// adaptation, the code that containerd runs, to neighpin and to a plugin that does nothing.
//
// Both are processes of their own, as on a node. neighpin is the product's binary with a real containerd beside it, whose
// sandbox store says whose each namespace is; the pods that are measured have real namespaces and are pinned. There is one
// neighpin for each number of sandboxes that it knows, all at the same time, so that they can take turns.
package nritrip
