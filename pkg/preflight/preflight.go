// SPDX-License-Identifier: Apache-2.0

// Package preflight judges whether pods can be pinned on a node, and what keeps
// them from it: it looks at the kernel, at this process's rights and mounts, and
// asks containerd about itself. It changes nothing, needs no daemon, and runs in
// the daemon's container as well as on the node: what cannot be seen from there is
// unknown, and not guessed.
package preflight

import (
	"context"
	"slices"
	"time"

	"github.com/neighpin/neighpin/pkg/containerd"
)

// Status says how one thing is.
type Status string

// What a thing can be.
const (
	// OK: as it should be.
	OK Status = "ok"
	// Warning: pods are pinned, but something is worth a look.
	Warning Status = "warning"
	// Failed: pods, or some of them, are not pinned because of it.
	Failed Status = "failed"
	// Unknown: it cannot be seen from here.
	Unknown Status = "unknown"
)

// Item is one thing that was looked at.
type Item struct {
	// Name says what, in lower case.
	Name string `json:"name"`
	// Status says how it is.
	Status Status `json:"status"`
	// Found is what was seen; it may have names from the node's configuration.
	Found string `json:"found"`
	// Do is one sentence on what to do; empty when there is nothing to do.
	Do string `json:"do,omitempty"`
}

// Report is the outcome.
type Report struct {
	Items []Item `json:"items"`
}

// Failed tells that an item is.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Items, func(i Item) bool { return i.Status == Failed })
}

// Runtime is what containerd is asked by.
type Runtime interface {
	// Node returns what containerd says of itself, and an error that joins what it
	// did not answer.
	Node(ctx context.Context) (containerd.Node, error)
}

var _ Runtime = (*containerd.Store)(nil)

// Daemon is what a running daemon says.
type Daemon struct {
	// Connected tells that it is connected to NRI; Error is why not.
	Connected bool
	Error     string
	// RequestTimeout is NRI's; zero when it was not told.
	RequestTimeout time.Duration
}

// Options are what the daemon is, or would be, configured with.
type Options struct {
	// NetNSDirs are where namespaces are looked for.
	NetNSDirs []string
	// StateDir holds the records.
	StateDir string
	// NRISocket and ContainerdSocket are paths; the second may be empty.
	NRISocket, ContainerdSocket string
	// Enforce, Learn and Observe are what the configuration asks for.
	Enforce, Learn, Observe bool
	// Selects tells whether pods of a handler are selected by it; the default
	// runtime's handler is empty.
	Selects func(handler, runtimeType string) bool
	// Runtime is asked about itself; nil for none.
	Runtime Runtime
	// Daemon is nil when none answers.
	Daemon *Daemon
	// Annotation is the key that only neighpin should write.
	Annotation string
	// Root is where the node's own files are looked for; empty for "/".
	Root string
}

// Run looks at everything. It ends with the context; what was not reached by then
// is unknown.
func Run(ctx context.Context, opts Options) Report {
	return Report{Items: judged(gather(ctx, opts))}
}

// judged is what was gathered, judged.
func judged(f facts) (items []Item) {
	for _, check := range []func(facts) []Item{
		checkKernel, checkCapabilities, checkStateDir, checkNetNSDirs, checkContainerd, checkHostNetwork, checkTiming,
		checkNRI, checkRequestTimeout, checkValidator, checkHandlers, checkPodAnnotations, checkCNI, checkUdev,
	} {
		items = append(items, check(f)...)
	}
	return items
}

func one(name string, status Status, found, do string) []Item {
	return []Item{{Name: name, Status: status, Found: found, Do: do}}
}
