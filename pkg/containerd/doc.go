// SPDX-License-Identifier: Apache-2.0

// Package containerd reads containerd's sandbox store over its gRPC API: which
// pod sandbox owns a network namespace, which runtime it uses, and whether CNI
// has finished with it. It only reads, and it needs nothing of containerd but
// the API module.
//
// Three writes of the CRI plugin make the store useful here (containerd 2.x,
// internal/cri/server/sandbox_run.go, RunPodSandbox): the record is created
// with the runtime handler, updated with the namespace's path before CNI is
// called, and updated with the CNI result after CNI returned and before the
// sandbox is created. The third write is the barrier [Record.NetworkReady]
// reports. containerd 1.7's default CRI server writes no such records, only the
// same text into that of the pause container (pkg/cri/server/sandbox_run.go).
package containerd
