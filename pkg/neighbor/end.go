// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"fmt"

	"github.com/neighpin/neighpin/pkg/internal/plain"
	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
)

// noteEnd remembers where a link of the sandbox leads to, if that is in the host's
// namespace: numbers in others are no use once the link has gone from the sandbox.
func (r *resolver) noteEnd(ctx context.Context, l rtnetlink.Link, o outlook) error {
	if !o.known() && o.segment == nil {
		return nil
	}
	host, err := r.isHost(ctx, o.nsid)
	if err != nil || !host {
		return err
	}
	if r.result.Ends == nil {
		r.result.Ends = make(map[string]int)
	}
	r.result.Ends[l.Name] = l.Other
	return nil
}

// reviewEnd judges what is reached over a link that is not in the sandbox any
// more by its other end, which does not move with it. A number that is a link's of
// the host again, and now another's, is as good as not to be had: numbers go up
// until they are used up (net/core/dev.c, dev_index_reserve).
func (r *resolver) reviewEnd(ctx context.Context, name string) (reviewed, error) {
	at := reviewed{Link: rtnetlink.Link{Name: name}}
	end, ok := r.query.Ends[name]
	if !ok {
		return at, nil
	}
	host, err := r.hostNumber(ctx)
	if err != nil || host == rtnetlink.NSIDNone {
		return at, err
	}
	r.rest(end)
	peer, err := r.links.Link(ctx, end, host)
	if rtnetlink.Gone(err) {
		return at, nil
	} else if err != nil {
		return at, fmt.Errorf("read link %d, the other end of link %s: %w", end, plain.Text(name), err)
	}
	if !peer.Pair() || peer.Other == 0 || !peer.HasNSID || peer.NSID < 0 {
		return at, nil
	}
	at.moved = true
	at.outlook, err = r.outlookAt(ctx, peer, host)
	return at, err
}
