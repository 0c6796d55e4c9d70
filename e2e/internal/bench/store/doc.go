// SPDX-License-Identifier: Apache-2.0

// Package store measures what it takes to find the owner of a new network namespace in containerd's sandbox store, by each
// way that the store offers, and how that grows with the number of sandboxes.
//
// containerd is real. One pod is run for its record; the others are copies of that record with ids, names and namespaces of
// their own, which are written through the store's own API, since a thousand pods are more than the machine can run. No
// process and no namespace stands behind them, which the store does not know.
//
// It runs in an enclosure.
package store
