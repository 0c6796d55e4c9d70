// SPDX-License-Identifier: Apache-2.0

// Package scale simulates what no test can make: a rolling update of neighpin on a cluster of thousands of nodes. docs/scale.md has what
// comes out, and a test holds the two together.
package scale
