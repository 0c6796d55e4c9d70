// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func fine() error { return nil }

// named serves the status of a daemon that can be told from others.
func named(t *testing.T, stateDir, name string) *Server {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	server, err := serveEvery(10*time.Millisecond, stateDir, Answers{Status: func() Status { return Status{Version: name} }, Alive: fine}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

func answers(t *testing.T, stateDir, name string) {
	t.Helper()
	nstest.Eventually(t, name+" to answer", func() bool {
		status, err := Ask(t.Context(), stateDir)
		return err == nil && status.Version == name
	})
}

// A rolling update that is taken back, or whose newcomer is killed: the daemon that
// was there before must not be ended by its own probes for that.
func TestTheOlderDaemonAnswersAgainWhenTheNewcomerIsGone(t *testing.T) {
	state := t.TempDir()
	older := named(t, state, "older")
	answers(t, state, "older")
	for _, killed := range []bool{false, true} {
		newer := named(t, state, "newer")
		answers(t, state, "newer")
		if killed {
			// What SIGKILL leaves behind: the file of a socket that nobody listens on.
			newer.stop()
			newer.mu.Lock()
			_ = newer.listener.Close()
			newer.mu.Unlock()
		} else if err := newer.Close(); err != nil {
			t.Fatal(err)
		}
		answers(t, state, "older")
	}
	if err := older.Close(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(state, "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := os.Stat(older.path); err == nil {
		t.Error("the socket is still there")
	}
}

func TestTheNewcomerKeepsTheName(t *testing.T) {
	state := t.TempDir()
	named(t, state, "older")
	newer := named(t, state, "newer")
	for range 20 { // of the older one's looks, and more
		answers(t, state, "newer")
	}
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
}

// Connecting to a socket needs the right to write to it (net/unix/af_unix.c,
// unix_find_bsd), and the folder may be one that everybody may enter.
func TestTheStatusSocketIsForRootAlone(t *testing.T) {
	state := t.TempDir()
	server := named(t, state, "this")
	info, err := os.Stat(filepath.Join(state, socketName))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode != os.ModeSocket|0o600 {
		t.Errorf("mode %v, want a socket with 0600", mode)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

// What a probe asks every few seconds must not make the status of ten thousand sandboxes.
func TestReadinessIsAskedForWithoutTheStatus(t *testing.T) {
	state := t.TempDir()
	log, _ := logtest.NewNullLogger()
	missing := errors.New("not ready: not yet")
	server, err := Serve(state, Answers{
		Status: func() Status { t.Error("the status was made"); return Status{} }, Alive: fine, Ready: func() error { return missing },
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := Ready(t.Context(), state); err == nil || err.Error() != missing.Error() {
		t.Errorf("it says %v, want %v", err, missing)
	}
	missing = nil
	if err := Ready(t.Context(), state); err != nil {
		t.Errorf("it says %v, want nothing", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func TestADaemonThatDoesNotKnowTheQuestionIsAskedForItsStatus(t *testing.T) {
	state := t.TempDir()
	log, _ := logtest.NewNullLogger()
	server, err := Serve(state, Answers{Status: func() Status { return Status{NRI: NRI{Connected: true}} }, Alive: fine}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	if err := Ready(t.Context(), state); err == nil || !strings.Contains(err.Error(), "not synchronized yet") {
		t.Errorf("it says %v", err)
	}
}

// The status is written piece by piece; who reads it must not see that.
func TestTheStatusIsWrittenAsAWhole(t *testing.T) {
	for _, records := range [][]record.Record{nil, {{ID: "a"}}, {{ID: "a", Name: "]}"}, {ID: "b"}}} {
		whole := Status{Version: "v1", Sandboxes: append([]record.Record{}, records...)}
		want, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		var got, compact bytes.Buffer
		if err := (Status{Version: "v1", Records: slices.Values(records)}).Write(&got); err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&compact, got.Bytes()); err != nil || !bytes.Equal(bytes.TrimSpace(compact.Bytes()), want) {
			t.Errorf("%v: %s\nwant %s", err, got.String(), want)
		}
	}
}

// Before it has its real name the socket has one, too, and who connects by that is served.
func TestTheStatusSocketNeverHadAnotherMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode != os.ModeSocket|0o600 {
		t.Errorf("made with mode %v, want a socket with 0600", mode)
	}
}
