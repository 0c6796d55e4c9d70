// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"sync"
	"time"

	leases "github.com/containerd/containerd/api/services/leases/v1"
)

// leaseAge is how long a list of leases serves, from its answer on, while one of them is
// of a sandbox that is not known. A sandbox that begins meanwhile is seen that much
// later, which is a tenth of what CNI takes at the least.
const leaseAge = 5 * time.Millisecond

// recent is what the leases said last. It is safe for concurrent use.
type recent struct {
	mu      sync.Mutex // guards the following
	at      time.Time  // when the answer came
	known   int        // how many sandboxes were known then
	unknown []string   // ids of those that were not
	all     int        // how many sandboxes had one
}

// still returns the unknown ones that are not known by now, if that is recent.
func (r *recent) still(known []string) (unknown []string, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) > leaseAge || len(known) < r.known {
		return nil, 0 // or some are not known any more
	}
	left := make(map[string]bool, len(r.unknown))
	for _, id := range r.unknown {
		left[id] = true
	}
	for _, id := range known {
		delete(left, id)
	}
	for _, id := range r.unknown {
		if left[id] {
			unknown = append(unknown, id)
		}
	}
	return unknown, r.all
}

// note keeps what the leases said.
func (r *recent) note(known int, unknown []string, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.known, r.unknown, r.all = time.Now(), known, unknown, all
}

// leased returns the ids of sandboxes that have a lease and are not known, and how
// many have one in all, as it was a moment ago if there still is one.
func (s *Store) leased(ctx context.Context, known []string) (unknown []string, all int, err error) {
	if unknown, all = s.recent.still(known); len(unknown) > 0 {
		return unknown, all, nil
	}
	return s.listLeases(ctx, known)
}

// listLeases is leased as it is now. Leases of images and the like have ids of another
// form.
func (s *Store) listLeases(ctx context.Context, known []string) (unknown []string, all int, err error) {
	response, err := s.leases.List(s.outgoing(ctx), &leases.ListRequest{})
	if err != nil {
		return nil, 0, s.explain("list leases of sandboxes", err)
	}
	skip := make(map[string]bool, len(known))
	for _, id := range known {
		skip[id] = true
	}
	for _, lease := range response.GetLeases() {
		if id := lease.GetID(); isSandboxID(id) {
			all++
			if !skip[id] {
				unknown = append(unknown, id)
			}
		}
	}
	s.recent.note(len(known), unknown, all)
	return unknown, all, nil
}

// listByLease returns what a list cannot, because all records together are more
// than one message: annotations of a few pods suffice. Each record is then asked
// for by itself.
func (s *Store) listByLease(ctx context.Context, known []string) ([]Record, error) {
	unknown, _, err := s.listLeases(ctx, known)
	if err != nil {
		return nil, err
	}
	return s.each(ctx, unknown)
}
