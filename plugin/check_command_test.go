// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/preflight"
)

// Nothing runs: what is missing is failed, what cannot be told is unknown.
func TestCheckWithoutAnything(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.sock")
	args := []string{"check", "--containerd-socket", none, "--nri-socket", none, "--state-dir", t.TempDir(), "--netns-dirs", t.TempDir()}
	got := neighpin(nil, append(args, "-o", "json")...)
	var report preflight.Report
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.code != exitNotPinned {
		t.Fatalf("check: %v, %+v", err, got)
	}
	status := map[string]preflight.Status{}
	for _, item := range report.Items {
		status[item.Name] = item.Status
		if item.Status == preflight.Failed && item.Do == "" {
			t.Errorf("%+v: what to do?", item)
		}
	}
	if status["containerd"] != preflight.Failed || status["NRI"] != preflight.Failed || status["kernel"] != preflight.OK || status["timing"] != preflight.Unknown {
		t.Errorf("%v", status)
	}
	if got := neighpin(nil, args...); got.code != exitNotPinned || !strings.Contains(got.stdout, "-> ") {
		t.Errorf("check as a table: %+v", got)
	}
	if got := neighpin(nil, "check", "-o", "wide"); got.code != exitUsage {
		t.Errorf("check -o wide: %+v", got)
	}
	if got := neighpin(nil, "check", "--learned", "perhaps"); got.code != exitUsage {
		t.Errorf("check of nonsense: %+v", got)
	}
}

// In a container the command line of the daemon is not known to the one of a check.
func TestCheckGoesByTheDaemonsConfiguration(t *testing.T) {
	conf := config.Default()
	conf.NRISocket, conf.ContainerdSocket = "/run/elsewhere/nri.sock", ""
	state := answering(t, map[string]http.Handler{status.ConfigPath: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(conf)
	})})
	if got := neighpin(nil, "check", "--state-dir", state); !strings.Contains(got.stdout, "/run/elsewhere/nri.sock") {
		t.Errorf("the daemon's configuration: %+v", got)
	}
	if got := neighpin(nil, "check", "--state-dir", state, "--nri-socket", "/run/mine/nri.sock"); !strings.Contains(got.stdout, "/run/mine/nri.sock") {
		t.Errorf("one of its own: %+v", got)
	}
}
