// SPDX-License-Identifier: Apache-2.0

// Package keep measures what neighpin costs once pods run: nothing happens to them, or much happens in namespaces beside
// them that are none of its business.
//
// The daemon is the real program in a process of its own. Its pods are real namespaces with a veth each, pinned by it at NRI's word,
// which the library that is inside containerd gives; there is no containerd. Then their addresses are removed, as gVisor does when it
// has copied them, and the runtime's type, which only containerd's sandbox store tells, is written into the records: from its next
// start on the daemon takes them for what they look like, pods of gVisor that run.
package keep
