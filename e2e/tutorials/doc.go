// SPDX-License-Identifier: Apache-2.0

// Package tutorials follows those pages of docs/ that need neither a cluster nor containerd, word for word, in an enclosure. The page for
// kind is followed by package kind.
package tutorials
