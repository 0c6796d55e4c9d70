// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// inquiry is an Ask that is being put.
type inquiry struct {
	ask    neighbor.Ask
	socket *socket
	asker  netip.Addr // from which it is asked
	frame  []byte

	questions int           // sent so far
	interval  time.Duration // between two that are answered
	pause     time.Duration // after the next question
	next      time.Time     // when that is to be sent
	complete  bool          // no more questions
	end       time.Time     // of the listening

	claimants []neighbor.HardwareAddr // of the address, each once
	answered  int                     // questions
	last      int                     // the number of the last of them
}

// put sends the next question if it is due.
func (q *inquiry) put(now time.Time) error {
	if q.complete || now.Before(q.next) {
		return nil
	}
	q.questions++
	q.next = now.Add(q.pause)
	q.pause *= 2
	return q.socket.send(q.frame)
}

// wake is when there is something to do if nothing is heard.
func (q *inquiry) wake() time.Time {
	if q.complete || q.end.Before(q.next) {
		return q.end
	}
	return q.next
}

// hear takes what somebody claims for the address.
func (q *inquiry) hear(c claim, now time.Time) {
	if !slices.Contains(q.claimants, c.lladdr) {
		if len(q.claimants) == maxClaimants {
			return
		}
		q.claimants = append(q.claimants, c.lladdr)
	}
	if c.asker == q.asker && q.last < q.questions {
		q.answered++
		q.last = q.questions
		q.pause = q.interval // somebody is there
		if soon := now.Add(q.interval); soon.Before(q.next) {
			q.next = soon
		}
	}
	if !q.complete && (len(q.claimants) > 1 || q.answered == enoughAnswers) {
		q.complete = true
		q.end = now.Add(quiet)
	}
}

// agreed tells whether one station has answered often enough, and no other has
// claimed the address.
func (q *inquiry) agreed() bool {
	return len(q.claimants) == 1 && q.answered >= enoughAnswers
}
