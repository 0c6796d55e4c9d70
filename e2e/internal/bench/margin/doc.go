// SPDX-License-Identifier: Apache-2.0

// Package margin measures how near pods come to starting unpinned: gVisor pods start eight at a time on a node of real parts (containerd,
// runsc, neighpin's own program) while processes that only compute keep every core busy. Two times matter for each pod: from the
// moment that CNI has finished to the kernel's word for the pins, and from there to the moment that runsc reads them.
//
// Both ends are told by others than neighpin. CNI has finished when containerd makes the file of the result in libcni's cache.
// runsc reads the neighbors when its own log says that it copies them. The middle is the time in neighpin's record.
package margin
