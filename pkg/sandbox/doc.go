// SPDX-License-Identifier: Apache-2.0

// Package sandbox is the engine: the life of each selected pod sandbox from the
// appearance of its network namespace to its end. It finds the sandbox that
// owns a new namespace, waits for CNI's result, has the gateways pinned by
// package neighbor, proves that the pin was in time, repairs it until the
// sandbox has started, keeps a record of it on disk, and answers which
// annotation the sandbox's containers get.
//
// The engine knows no NRI and no logger: handlers call [Engine], and what is
// worth telling goes to a [Reporter].
package sandbox
