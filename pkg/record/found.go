// SPDX-License-Identifier: Apache-2.0

package record

import (
	"time"

	"github.com/neighpin/neighpin/pkg/hoststate"
)

// HostState is what was found on the host when a sandbox started.
type HostState struct {
	hoststate.Report
	// At is when that was.
	At time.Time `json:"at"`
	// Error is why it could not be looked at, or removed.
	Error string `json:"error,omitempty"`
}

// Observed is what a sandbox that has started asked for on the wire.
type Observed struct {
	// Gateways are the questions for pinned gateways: a pin that works leaves none.
	Gateways uint64 `json:"gateways"`
	// Others are those for anything else.
	Others uint64 `json:"others"`
	// Since is when the counting began.
	Since time.Time `json:"since"`
}
