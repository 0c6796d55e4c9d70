// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The types below are what scripts read from `neighpin status -o json`. They are written down here anew, not
// imported from the product, so that a change to the output fails a test.

// Status is the whole answer.
type Status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"startedAt"`
	Config    struct {
		File         string    `json:"file"`
		OK           bool      `json:"ok"`
		Error        string    `json:"error"`
		LoadedAt     time.Time `json:"loadedAt"`
		NeedsRestart []string  `json:"needsRestart"`
	} `json:"config"`
	NRI struct {
		Connected        bool   `json:"connected"`
		Synchronized     bool   `json:"synchronized"`
		Socket           string `json:"socket"`
		Runtime          string `json:"runtime"`
		RuntimeVersion   string `json:"runtimeVersion"`
		RequestTimeoutMs int    `json:"requestTimeoutMs"`
	} `json:"nri"`
	Store struct {
		Connected bool   `json:"connected"`
		Socket    string `json:"socket"`
	} `json:"store"`
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
	Error     string     `json:"error"`
	Neighbors []Neighbor `json:"neighbors"`
	Skipped   []Skipped  `json:"skipped"`
	Stale     []Stale    `json:"stale"`
	Observed  *Observed  `json:"observed"`
	Doubts    []Doubt    `json:"doubts"`
	HostState struct {
		Finds []Find `json:"finds"`
	} `json:"hostState"`
	ReturnPath []struct {
		Dst    string `json:"dst"`
		Dev    string `json:"dev"`
		LLAddr string `json:"lladdr"`
		Source string `json:"source"`
	} `json:"returnPath"`
	Timing    Timing `json:"timing"`
	Repins    int    `json:"repins"`
	Annotated bool   `json:"annotated"`
}

// Observed is what a pod asked for on the wire, where that is counted.
type Observed struct {
	Gateways uint64    `json:"gateways"`
	Others   uint64    `json:"others"`
	Since    time.Time `json:"since"`
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

// Stale is a copy that a runtime took and that is not true any more.
type Stale struct {
	Dst    string `json:"dst"`
	Dev    string `json:"dev"`
	Copied string `json:"copied"`
	Source string `json:"source"`
	// LLAddr is what is true now; empty if nothing is, for Reason.
	LLAddr string    `json:"lladdr"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Doubt is what speaks against a gateway that is learned by asking.
type Doubt struct {
	Dst    string    `json:"dst"`
	Dev    string    `json:"dev"`
	Reason string    `json:"reason"`
	Claims []string  `json:"claims"`
	Since  time.Time `json:"since"`
}

// Find is something that others left on the host for the pod's addresses.
type Find struct {
	Kind    string `json:"kind"`
	Dst     string `json:"dst"`
	LLAddr  string `json:"lladdr"`
	Rule    string `json:"rule"`
	Restore string `json:"restore"`
	Removed bool   `json:"removed"`
}

// Timing says whether a pin was in time.
type Timing struct {
	Verdict       string    `json:"verdict"`
	MarginMs      float64   `json:"marginMs"`
	PinnedAt      time.Time `json:"pinnedAt"`
	ResultToPinMs float64   `json:"resultToPinMs"`
}

// Said is what a neighpin says of itself, through its socket and its records, whoever started it.
type Said struct {
	node     *Node
	stateDir string
}

// Said is what the neighpin with that state folder says.
func (n *Node) Said(stateDir string) Said { return Said{node: n, stateDir: stateDir} }

// Status asks the daemon through its socket. That something is not pinned as it should be (exit code 3) is a
// status like any other.
func (s Said) Status(ctx context.Context) (Status, error) {
	var status Status
	out, code, err := s.node.CLI(ctx, "status", "-o", "json", "--state-dir", s.stateDir)
	if err != nil && code != notAsItShouldBe {
		return status, err
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return status, fmt.Errorf("parse the status: %w\n%s", err, out)
	}
	return status, nil
}

// Sandbox is what the daemon says about a pod's sandbox.
func (s Said) Sandbox(ctx context.Context, p *Pod) (Sandbox, error) {
	status, err := s.Status(ctx)
	if err != nil {
		return Sandbox{}, err
	}
	for _, sandbox := range status.Sandboxes {
		if sandbox.ID == p.ID {
			return sandbox, nil
		}
	}
	return Sandbox{}, fmt.Errorf("find sandbox %s of pod %s/%s in the status: it is not there", p.ID, p.Namespace, p.Name)
}

// Records are the ids of the sandboxes that the daemon's state folder has a record of.
func (s Said) Records() ([]string, error) {
	files, err := filepath.Glob(s.RecordFile("*"))
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(files))
	for _, file := range files {
		ids = append(ids, strings.TrimSuffix(filepath.Base(file), ".json"))
	}
	return ids, nil
}

// RecordFile is the path of a sandbox's record.
func (s Said) RecordFile(id string) string {
	return filepath.Join(s.stateDir, "sandboxes", id+".json")
}

// Record is what the state folder says about a pod's sandbox; with two daemons on it that is what both agree on.
func (s Said) Record(p *Pod) (Sandbox, error) {
	var sandbox Sandbox
	data, err := os.ReadFile(s.RecordFile(p.ID))
	if err != nil {
		return sandbox, fmt.Errorf("read the record of pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	if err := json.Unmarshal(data, &sandbox); err != nil {
		return sandbox, fmt.Errorf("parse the record of pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return sandbox, nil
}
