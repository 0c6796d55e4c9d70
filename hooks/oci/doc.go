// SPDX-License-Identifier: Apache-2.0

// Package oci is neighpin's way in where an OCI runtime is executed: a wrapper
// that stands in front of the runtime's binary, and a hook that the runtime
// calls.
//
// Both work in line. When the wrapper hands over to the runtime, or the hook
// returns, the kernel has acknowledged every pin; no daemon has to be there. What
// they do is recorded beside what the daemon records, under the container's id,
// so that each knows the other's pins.
//
// Nothing here writes to standard output: that belongs to the runtime. What has
// to be said goes where the runtime's own messages go.
package oci

import (
	"context"
	"io"
	"time"

	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// Exit codes of [Wrap] and [Hook].
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// patience bounds all work before the runtime runs. Usually it takes a
// millisecond or two; on a machine so busy that it takes seconds, a pod that starts
// without its pins is the lesser evil.
const patience = 5 * time.Second

// Process is what the wrapper and the hook are given of their process.
type Process struct {
	// Args are the arguments without the program's own name.
	Args []string
	// Env is the environment, as KEY=value.
	Env []string
	// Stdin is where a hook reads the state.
	Stdin io.Reader
	// Stderr takes messages that have no log to go to.
	Stderr io.Writer
	// Exec replaces the process, as execve does. It returns only an error.
	Exec func(path string, argv, env []string) error
}

// Options are the operator's wishes.
type Options struct {
	// Name is the one under which the wrapper was called.
	Name string
	// Runtimes are the real runtimes, by the name under which the wrapper is
	// called: absolute paths, or names to be looked up in PATH.
	Runtimes map[string]string
	// Enforce refuses a container whose gateways cannot be pinned.
	Enforce bool
	// Annotate puts the annotation into the bundle.
	Annotate bool
	// ExcludeNamespaces are globs (path.Match) of Kubernetes namespaces whose pods are
	// neither pinned nor annotated nor refused.
	ExcludeNamespaces []string
	// MaxNeighbors is the limit of pins of one sandbox.
	MaxNeighbors int
	// StateDir holds the records.
	StateDir string
	// Fault is why the operator's wishes are not known in full. Then no container
	// begins, since it might have to be refused; what runs can be stopped.
	Fault error
}

// worker is one run of the wrapper or of the hook.
type worker struct {
	Options
	host *netns.Host
	// records is nil where the state directory cannot be used.
	records *record.Dir
	say     teller
}

// ready opens what the work needs. It fails where namespaces cannot be told
// apart; a state directory that cannot be used costs records, no pins.
func (w *worker) ready() (err error) {
	if w.host, err = netns.NewHost(); err != nil {
		return err
	}
	if w.records, err = record.Open(w.StateDir); err != nil {
		w.records = nil
		w.say.warn("no record is kept: %v", err)
	}
	return nil
}

// close lets go of what ready has opened.
func (w *worker) close() {
	if w.host != nil {
		_ = w.host.Close()
	}
}

// limited is the context of the work before the runtime runs.
func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
