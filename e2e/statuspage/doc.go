// SPDX-License-Identifier: Apache-2.0

// Package statuspage holds the tests of the daemon's status page: a real node with real gVisor pods, and a real
// browser without a window that looks at it.
package statuspage
