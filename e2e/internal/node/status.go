// SPDX-License-Identifier: Apache-2.0

package node

import "time"

// The types below are what scripts read from `neighpin status -o json`. They are written down here anew, not
// imported from the product, so that a change to the output fails a test.

// Status is the whole answer.
type Status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"startedAt"`
	NRI       struct {
		Connected        bool   `json:"connected"`
		Synchronized     bool   `json:"synchronized"`
		Socket           string `json:"socket"`
		Runtime          string `json:"runtime"`
		RuntimeVersion   string `json:"runtimeVersion"`
		RequestTimeoutMs int    `json:"requestTimeoutMs"`
	} `json:"nri"`
	Containerd struct {
		Connected bool   `json:"connected"`
		Socket    string `json:"socket"`
	} `json:"containerd"`
	Sandboxes []Sandbox `json:"sandboxes"`
}

// Sandbox is one sandbox of the status.
type Sandbox struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Handler   string `json:"handler"`
	Runtime   string `json:"runtime"`
	NetNS     struct {
		Path   string `json:"path"`
		Cookie uint64 `json:"cookie"`
	} `json:"netns"`
	Phase     string     `json:"phase"`
	Neighbors []Neighbor `json:"neighbors"`
	Skipped   []Skipped  `json:"skipped"`
	Timing    Timing     `json:"timing"`
	Repins    int        `json:"repins"`
	Annotated bool       `json:"annotated"`
}

// Neighbor is a pin, in the status and on the command line.
type Neighbor struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	LLAddr string   `json:"lladdr"`
	Family string   `json:"family"`
	State  []string `json:"state"`
	Source string   `json:"source"`
}

// Skipped is a gateway that was not pinned.
type Skipped struct {
	Dst    string `json:"dst"`
	Dev    string `json:"dev"`
	Reason string `json:"reason"`
}

// Timing says whether a pin was in time.
type Timing struct {
	Verdict       string    `json:"verdict"`
	MarginMs      float64   `json:"marginMs"`
	PinnedAt      time.Time `json:"pinnedAt"`
	ResultToPinMs float64   `json:"resultToPinMs"`
}
