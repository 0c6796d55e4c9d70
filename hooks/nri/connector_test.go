// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/neighpin/neighpin/pkg/sandbox"
)

// The runtime goes away while Synchronize is being handled, which ends only after
// the loss was noted: nobody is ready by that.
func TestLateWordsOfALostConnectionCountForNothing(t *testing.T) {
	c := New(Options{})
	onRuntime, onSync := c.next()
	onRuntime("test-runtime", "1.0")
	onSync()
	if state := c.State(); !state.Synchronized || state.Runtime != "test-runtime" {
		t.Fatalf("state %+v", state)
	}
	c.lose(errHungUp)
	onSync()
	onRuntime("test-runtime", "1.0")
	if state := c.State(); state.Synchronized || state.Runtime != "" || !errors.Is(state.Err, errHungUp) {
		t.Errorf("after the loss: %+v", state)
	}
	_, onSync = c.next()
	onSync()
	if !c.State().Synchronized {
		t.Error("the next connection's words do not count")
	}
}

// A connection that was given up while it was dialled is not left behind.
func TestConnectionThatWasGivenUpIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nri.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := &watchedConn{gone: make(chan struct{})}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := c.dial(path); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialled %v, %v", conn, err)
	}
}

// Who notices first is a matter of chance, and no reason to say it again.
func TestAnEndOfTheConnectionIsOneReasonHoweverItShows(t *testing.T) {
	shown := reason(fmt.Errorf("register with NRI: %w", errors.Join(errHungUp, io.EOF)))
	if other := reason(fmt.Errorf("take over sandboxes from NRI: %w", errHungUp)); shown != other {
		t.Errorf("%q and %q", shown, other)
	}
	if other := reason(errStartTimeout); other == shown {
		t.Errorf("%q, too", other)
	}
}

func TestARegistrationThatWasGivenUpTakesNoConfiguration(t *testing.T) {
	h := &handlers{configure: func(string) (*sandbox.Engine, error) {
		t.Error("configured")
		return nil, errHungUp
	}}
	h.abort(errStartTimeout)
	if _, err := h.Configure(t.Context(), "", "containerd", "v2.4.2"); !errors.Is(err, errStartTimeout) {
		t.Errorf("error %v", err)
	}
}
