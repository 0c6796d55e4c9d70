// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"slices"
	"time"
)

// Phase says how far a sandbox has come.
type Phase string

// The phases.
const (
	// Starting: the runtime may not have read the namespace yet.
	Starting Phase = "starting"
	// Started: the runtime has it, or its first container has come.
	Started Phase = "started"
)

// Verdict says whether a sandbox began its life with its gateways pinned.
type Verdict string

// The verdicts, from the weakest to the strongest.
const (
	// Pending: not decided yet.
	Pending Verdict = "pending"
	// Nothing: the sandbox has no gateway that could be pinned.
	Nothing Verdict = "nothing"
	// Unproven: pinned, but nothing shows when the runtime read the namespace.
	Unproven Verdict = "unproven"
	// Late: the runtime was quicker, or a pin was missing when it came.
	Late Verdict = "late"
	// InTime: the kernel had acknowledged every pin, and none was lost,
	// before the runtime took the first address or, for pods that use the
	// kernel's stack, before the first container.
	InTime Verdict = "inTime"
)

// StrongerThan tells whether a verdict says more than another one, in the order above.
func (v Verdict) StrongerThan(o Verdict) bool { return v.strength() > o.strength() }

func (v Verdict) strength() int {
	return slices.Index([]Verdict{Pending, Nothing, Unproven, Late, InTime}, v)
}

// Timing is the proof of time of one sandbox.
type Timing struct {
	// Verdict is the outcome.
	Verdict Verdict `json:"verdict"`
	// MarginMs is the time, in milliseconds, from the kernel's last
	// acknowledgement to the moment that counts; only with InTime, and with
	// Late where both moments were seen (then it is negative).
	MarginMs float64 `json:"marginMs,omitempty"`
	// PinnedAt is when the kernel acknowledged the last pin.
	PinnedAt time.Time `json:"pinnedAt,omitzero"`
	// ResultToPinMs is the time, in milliseconds, from the last read of the
	// sandbox's record that had no CNI result to the acknowledgement: an upper
	// bound, as the result was written somewhen after that read.
	ResultToPinMs float64 `json:"resultToPinMs,omitempty"`
}

// String is the verdict with its margin.
func (t Timing) String() string {
	if t.MarginMs == 0 {
		return string(t.Verdict)
	}
	return fmt.Sprintf("%s, margin %.1f ms", t.Verdict, t.MarginMs)
}
