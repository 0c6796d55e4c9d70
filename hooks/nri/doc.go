// SPDX-License-Identifier: Apache-2.0

// Package nri connects the engine to the runtime's NRI: thin handlers that
// translate pods and containers, and a connector that survives the runtime.
//
// NRI calls all plugins of a node one after another under one lock (nri
// pkg/adaptation), so a handler here looks up what the engine knows and
// returns. Those that wait, each for at most a second: RunPodSandbox of a pod that
// the early path has not seen, CreateContainer while its sandbox is taken over or,
// with enforce, has to be proven, and Synchronize.
package nri
