// SPDX-License-Identifier: Apache-2.0

// Package kind runs a Kubernetes cluster by kind without a registry: Docker and Debian come from the machine's package
// sources, everything else is built from Go modules.
//
// The work has two halves. Gather runs on the machine, where the network is, and leaves only files in the cache.
// Everything else (StartDocker, NodeImage, CreateCluster) runs inside an enclosure, with a Docker daemon of its own:
// its bridges, rules, mounts and processes are nobody else's and end with it. What stays on the machine is the cache,
// with Docker's data in it, so that the node image is built once.
package kind
