// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

// Whatever is not as it should be about the daemon itself stands on its page.
func TestThePageSaysHowTheDaemonIs(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	for name, tc := range map[string]struct {
		told status.Status
		want []string
	}{
		"all is well": {status.Status{Node: "n1", NRI: status.NRI{Connected: true, Synchronized: true, Runtime: "containerd", RuntimeVersion: "v2.3.3", RequestTimeoutMs: 2000},
			Store: status.Store{Connected: true, Socket: "/run/c.sock"}, Host: status.Host{Heard: true}, Config: config.Status{OK: true, LoadedAt: at},
			Observe: &status.Observe{Counting: true}},
			[]string{"n1", "containerd v2.3.3, timeout 2000 ms", "/run/c.sock", "Heard", "In force", "since 2026-11-22 01:02:03 UTC", "Counted"}},
		"nothing is": {status.Status{NRI: status.NRI{Error: "no NRI here"}, Store: status.Store{Socket: "/run/c.sock", Error: "no store here"}, Host: status.Host{Error: "not permitted"},
			Config: config.Status{LoadedAt: at, Error: "unknown field"}, Observe: &status.Observe{Error: "an old kernel"}},
			[]string{"no NRI here", "no store here", "not permitted", "unknown field. The one of 2026-11-22 01:02:03 UTC stays in force.", "an old kernel", "Not counted"}},
		"half is": {status.Status{NRI: status.NRI{Connected: true}, Config: config.Status{OK: true, NeedsRestart: []string{"enforce", "learned"}},
			Sandboxes: []record.Record{{Name: "web", Timing: record.Timing{Verdict: record.Late}}}},
			[]string{"not synchronized yet", "no early path", "enforce, learned", "Need attention (1)", "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := New(func() View { return Of(tc.told) })
			if err != nil {
				t.Fatal(err)
			}
			recorder := httptest.NewRecorder()
			page.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			body := recorder.Body.String()
			for _, want := range tc.want {
				if !strings.Contains(body, want) {
					t.Errorf("the page lacks %q:\n%s", want, body)
				}
			}
		})
	}
}
