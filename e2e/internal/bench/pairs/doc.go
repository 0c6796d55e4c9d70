// SPDX-License-Identifier: Apache-2.0

// Package pairs measures what neighpin costs a pod's start on a real node: the time of the CRI's calls RunPodSandbox, CreateContainer
// and StartContainer on containerd, with neighpin against without.
//
// There are two nodes, each in an enclosure of its own with its own network, containerd and sandbox store, of which one at a time
// has neighpin. A pair is a pod on each of them, one after the other, and which is first alternates. Both nodes exist all the time, so
// that nothing is started or stopped between the two pods of a pair, and a neighpin that is idle hears nothing of the other node's
// pods. That one node may be quicker than the other is taken out by changing sides: neighpin is on the one, the other, the other
// and the one for a quarter of the pairs each. What the method itself says is measured, too, by pairs in which neither node
// has neighpin.
package pairs
