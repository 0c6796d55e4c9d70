// SPDX-License-Identifier: Apache-2.0

// Package observe counts what sandboxes ask for on the wire: ARP requests and
// neighbor solicitations that come out of the other ends of their links, on the
// host. A pinned gateway that is asked for again is a pin that does not work.
//
// The counting is done by one small eBPF program of the type that traffic control
// runs, attached by tcx (Linux 6.6) as the first on a link's ingress. It answers
// TCX_NEXT to everything, so that whatever the CNI plugin has there decides as if
// it were alone: its own tcx programs come next, and after those the filters of a
// clsact qdisc (net/core/dev.c, sch_handle_ingress: tcx_run, then tc_run). Nothing
// is pinned to a file system, so that program, maps and attachments end with the
// process, however that ends, and an attachment ends with its link.
package observe
