// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/internal/statuspage"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// served is the address of a server that has a page, and profiles if that is asked for.
func served(t *testing.T, profile bool, status Status) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	page, err := statuspage.New(func() statuspage.View { return pageView(status) })
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logtest.NewNullLogger()
	stuck := func() error { return errors.New("the engine is stuck") }
	server := serveMetrics(address, pages{metrics: http.HandlerFunc(hello), status: page, profile: profile}, probes{alive: stuck, ready: func() error { return ready(status.NRI) }}, log)
	t.Cleanup(func() { _ = server.Close() })
	nstest.Eventually(t, "the page to be served", func() bool { code, _ := get(t, "http://"+address+"/"); return code == http.StatusOK })
	return "http://" + address
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	for profile, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		at := served(t, profile, Status{})
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1"} {
			if code, _ := get(t, at+path); code != want {
				t.Errorf("pprof %t: %s gives %d, want %d", profile, path, code, want)
			}
		}
		if code, _ := get(t, at+"/other"); code != http.StatusNotFound {
			t.Errorf("a path of nothing gives %d", code)
		}
	}
}

func TestProbesSayWhatIsMissing(t *testing.T) {
	at := served(t, false, Status{NRI: NRIStatus{Socket: "/run/nri/none", Error: "no such file"}})
	for path, want := range map[string]string{"/readyz": "not connected to NRI at /run/nri/none: no such file", "/healthz": "the engine is stuck"} {
		if code, body := get(t, at+path); code != http.StatusServiceUnavailable || !strings.Contains(body, want) {
			t.Errorf("%s gives %d %q, want %q", path, code, body, want)
		}
	}
}

// Whatever is not as it should be about the daemon itself stands on its page.
func TestThePageSaysHowTheDaemonIs(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	for name, tc := range map[string]struct {
		status Status
		want   []string
	}{
		"all is well": {Status{Node: "n1", NRI: NRIStatus{Connected: true, Synchronized: true, Runtime: "containerd", RuntimeVersion: "v2.3.3", RequestTimeoutMs: 2000},
			Containerd: ContainerdStatus{Connected: true, Socket: "/run/c.sock"}, Host: HostStatus{Heard: true}, Config: ConfigStatus{OK: true, LoadedAt: at},
			Observe: &ObserveStatus{Counting: true}},
			[]string{"n1", "containerd v2.3.3, timeout 2000 ms", "/run/c.sock", "Heard", "In force", "since 2026-11-22 01:02:03 UTC", "Counted"}},
		"nothing is": {Status{NRI: NRIStatus{Error: "no NRI here"}, Containerd: ContainerdStatus{Socket: "/run/c.sock", Error: "no store here"}, Host: HostStatus{Error: "not permitted"},
			Config: ConfigStatus{LoadedAt: at, Error: "unknown field"}, Observe: &ObserveStatus{Error: "an old kernel"}},
			[]string{"no NRI here", "no store here", "not permitted", "unknown field. The one of 2026-11-22 01:02:03 UTC stays in force.", "an old kernel", "Not counted"}},
		"half is": {Status{NRI: NRIStatus{Connected: true}, Config: ConfigStatus{OK: true, NeedsRestart: []string{"enforce", "learned"}},
			Sandboxes: []sandbox.Record{{Name: "web", Timing: sandbox.Timing{Verdict: sandbox.Late}}}},
			[]string{"not synchronized yet", "no early path", "enforce, learned", "Need attention (1)", "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, body := get(t, served(t, false, tc.status))
			for _, want := range tc.want {
				if !strings.Contains(body, want) {
					t.Errorf("the page lacks %q:\n%s", want, body)
				}
			}
		})
	}
}
