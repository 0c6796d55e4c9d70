// SPDX-License-Identifier: Apache-2.0

package guard

import "time"

// credit is the time that comparing one sandbox may cost at once, and share what part of
// all time in the long run: one hundredth. It is the processor's time: who waits for the
// kernel's lock on links waits because somebody else has it.
const (
	credit = 50 * time.Millisecond
	share  = 100
)

// Pace spaces the comparisons of one sandbox by what they cost, so that one
// which never rests, or is slow to read, takes a bounded share from others.
type Pace struct {
	debt time.Duration // at the moment
	at   time.Time
}

// Wait is how long to wait before the next one.
func (p *Pace) Wait(now time.Time) time.Duration {
	p.settle(now)
	return max(0, p.debt-credit) * share
}

// Spend notes what one cost.
func (p *Pace) Spend(now time.Time, cost time.Duration) {
	p.settle(now)
	p.debt += cost
}

func (p *Pace) settle(now time.Time) {
	p.debt = max(0, p.debt-now.Sub(p.at)/share)
	p.at = now
}
