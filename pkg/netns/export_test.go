// SPDX-License-Identifier: Apache-2.0

package netns

// Awaited tells whether a Close of h waits for a visit to end.
func Awaited(h *Host) bool {
	if h.self.mu.TryRLock() {
		h.self.mu.RUnlock()
		return false
	}
	return true
}
