// SPDX-License-Identifier: Apache-2.0

// Package gain measures what a pod has of pinned gateways: how long its first connection takes, and what a gateway hears when
// many pods start at once, with pins and without.
package gain
