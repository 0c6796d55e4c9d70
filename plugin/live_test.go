// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/status"
)

func TestLivenessIsAskedOverTheStatusSocket(t *testing.T) {
	state := t.TempDir()
	live := []string{"status", "--live", "--state-dir", state}
	if got := neighpin(nil, live...); got.code != exitError || !strings.Contains(got.stderr, "is it running") {
		t.Errorf("without a daemon: %+v", got)
	}
	var stuck atomic.Bool
	alive := func() error {
		if stuck.Load() {
			return errors.New("the engine is stuck")
		}
		return nil
	}
	log, _ := logtest.NewNullLogger()
	// Not connected to anything, which is no fault of the daemon's.
	server, err := status.Serve(state, status.Answers{Status: func() status.Status { return status.Status{NRI: status.NRI{Socket: "/none"}} }, Alive: alive}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	if got := neighpin(nil, live...); got.code != exitOK || got.stdout+got.stderr != "" {
		t.Errorf("alive, and not connected: %+v", got)
	}
	ready := append(live[:1:1], "--ready", "--state-dir", state)
	if got := neighpin(nil, ready...); got.code != exitError || !strings.Contains(got.stderr, "not connected to NRI at /none") {
		t.Errorf("readiness: %+v", got)
	}
	if got := neighpin(nil, append(ready, "--live")...); got.code != exitError {
		t.Errorf("both: %+v", got)
	}
	stuck.Store(true)
	if got := neighpin(nil, live...); got.code != exitError || !strings.Contains(got.stderr, "not alive") || !strings.Contains(got.stderr, "the engine is stuck") {
		t.Errorf("stuck: %+v", got)
	}
}
