// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"net/netip"
	"sync"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// Readings are what several calls of Resolve and Review read of the host's links,
// addresses and VLANs, once for all of them: whoever judges a thousand sandboxes of
// one bridge would else read the addresses of all of the host's links a thousand
// times. What is in them is not read again. So they are for calls that follow each
// other closely, and to be replaced by new ones as soon as something of the host
// may have changed. They may be used from several goroutines.
type Readings struct {
	mu      sync.Mutex // guards the following
	links   map[int]rtnetlink.Link
	holders map[netip.Addr][]int
	vlans   rtnetlink.VLANs // of the whole namespace; nil until they have been read
}

// NewReadings returns empty ones.
func NewReadings() *Readings {
	return &Readings{links: make(map[int]rtnetlink.Link), holders: make(map[netip.Addr][]int)}
}

// remembered finds what was read, or reads it. Two may read the same at once.
func remembered[K comparable, V any](r *Readings, known map[K]V, key K, read func() (V, error)) (V, error) {
	r.mu.Lock()
	v, ok := known[key]
	r.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := read()
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		known[key] = v
	}
	return v, err
}

// sharedLinks reads the host's namespace through Readings, any other anew. What a
// link's message says is the same from wherever it is asked for, but for the number
// of the namespace that its other end is in, which is the asker's
// (net/core/rtnetlink.c, rtnl_fill_link_netnsid): of a link outside nobody here goes
// by more than whether there is one.
type sharedLinks struct {
	survey *survey
	by     *Readings
}

func (s sharedLinks) Link(ctx context.Context, index int, nsid int32) (rtnetlink.Link, error) {
	read := func() (rtnetlink.Link, error) { return s.survey.conn.Link(ctx, index, nsid) }
	if host, err := s.survey.isHost(ctx, nsid); err != nil || !host {
		return read()
	}
	return remembered(s.by, s.by.links, index, read)
}

// Holders asks anew for one link's addresses, which are few.
func (s sharedLinks) Holders(ctx context.Context, index int, nsid int32, ip netip.Addr) ([]int, error) {
	read := func() ([]int, error) { return s.survey.conn.Holders(ctx, index, nsid, ip) }
	if host, err := s.survey.isHost(ctx, nsid); err != nil || !host || index != anyLink {
		return read()
	}
	return remembered(s.by, s.by.holders, ip, read)
}

// share has a survey read by way of Readings, if there are any.
func (s *survey) share(r *Readings) {
	if r != nil {
		s.links, s.readings = sharedLinks{s, r}, r
	}
}

// hostVLANs reads the VLANs of the host's bridges, by way of Readings if there are
// any.
func (s *survey) hostVLANs(read func() (rtnetlink.VLANs, error)) (rtnetlink.VLANs, error) {
	if s.readings == nil {
		return read()
	}
	s.readings.mu.Lock()
	list := s.readings.vlans
	s.readings.mu.Unlock()
	if list != nil {
		return list, nil
	}
	list, err := read()
	if err == nil {
		s.readings.mu.Lock()
		defer s.readings.mu.Unlock()
		s.readings.vlans = list
	}
	return list, err
}
