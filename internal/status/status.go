// SPDX-License-Identifier: Apache-2.0

// Package status is what the daemon says of itself: the JSON of "neighpin status", the
// socket by which it says that to root alone, and the questions that a command asks there.
package status

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/pkg/record"
)

// Status is what the daemon says of itself: the JSON of "neighpin status".
type Status struct {
	Version   string          `json:"version"`
	Node      string          `json:"node,omitempty"`
	StartedAt time.Time       `json:"startedAt"`
	Config    config.Status   `json:"config"`
	NRI       NRI             `json:"nri"`
	Store     Store           `json:"store"`
	Host      Host            `json:"host"`
	Observe   *Observe        `json:"observe,omitempty"`
	Sandboxes []record.Record `json:"sandboxes"`

	// Records are the Sandboxes, where these are not collected.
	Records iter.Seq[record.Record] `json:"-"`
}

// Write writes the status as JSON, one sandbox after the other: as a whole it is many
// megabytes on a full node, which the encoder would keep.
func (s Status) Write(w io.Writer) error {
	records := s.Records
	if records == nil {
		records = slices.Values(s.Sandboxes)
	}
	s.Sandboxes = []record.Record{}
	outline, err := json.Marshal(s)
	if err != nil {
		return err
	}
	const end = "]}"
	outline, found := bytes.CutSuffix(outline, []byte(end))
	if !found {
		return errors.New("write the status: the sandboxes are not last in it")
	}
	out := bufio.NewWriter(w)
	_, err = out.Write(outline)
	encoder, first := json.NewEncoder(out), true
	for rec := range records {
		if !first && err == nil {
			err = out.WriteByte(',')
		}
		if first = false; err == nil {
			err = encoder.Encode(rec)
		}
		if err != nil {
			return err
		}
	}
	_, _ = out.WriteString(end + "\n") // Flush tells
	return out.Flush()
}

// Host tells whether changes of the host's links are heard, by which pins
// follow the truth at once.
type Host struct {
	Heard bool   `json:"heard"`
	Error string `json:"error,omitempty"`
}

// Observe tells whether what pods ask for is counted, where that is asked for.
type Observe struct {
	Counting bool   `json:"counting"`
	Error    string `json:"error,omitempty"`
}

// NRI is the connection to NRI.
type NRI struct {
	Connected        bool   `json:"connected"`
	Synchronized     bool   `json:"synchronized"`
	Socket           string `json:"socket"`
	Runtime          string `json:"runtime,omitempty"`
	RuntimeVersion   string `json:"runtimeVersion,omitempty"`
	RequestTimeoutMs int64  `json:"requestTimeoutMs,omitempty"`
	Error            string `json:"error,omitempty"`
}

// Store is the connection to containerd's sandbox store.
type Store struct {
	Connected bool   `json:"connected"`
	Socket    string `json:"socket"`
	Error     string `json:"error,omitempty"`
}

// Ready tells that the daemon is connected and has taken over what was there: nil,
// or what is missing.
func (n NRI) Ready() error {
	switch {
	case n.Connected && n.Synchronized:
		return nil
	case n.Connected:
		return errors.New("not ready: connected to NRI, not synchronized yet")
	}
	if n.Error != "" {
		return fmt.Errorf("not ready: not connected to NRI at %s: %s", n.Socket, n.Error)
	}
	return fmt.Errorf("not ready: not connected to NRI at %s", n.Socket)
}

// Problems are, in a word each, what keeps a sandbox from being as it should be.
func Problems(rec record.Record) []string {
	var list []string
	add := func(problem string) {
		if !slices.Contains(list, problem) {
			list = append(list, problem)
		}
	}
	if rec.Refused != "" {
		add("Refused")
	}
	if rec.Error != "" {
		add("Error")
	}
	if rec.Timing.Verdict == record.Late {
		add("Late")
	}
	if len(rec.Stale) > 0 {
		add("Stale")
	}
	for _, s := range rec.Skipped {
		if s.Reason.NoTruth() {
			add(string(s.Reason))
		}
	}
	for _, d := range rec.Doubts {
		add(string(d.Reason))
	}
	return list
}

// AsItShouldBe tells that a sandbox is pinned, or on its way to be.
func AsItShouldBe(rec record.Record) bool { return len(Problems(rec)) == 0 }
