// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A name of somebody else's that leads to this port is what a web page can arrange in
// a reader's browser, and then read the names of pods.
func TestWhatHasNamesIsServedUnderTheHostsOwnNamesOnly(t *testing.T) {
	handler := Serve("127.0.0.1:0", Content{
		Metrics: http.HandlerFunc(hello), Alive: fine, Ready: fine, Page: http.HandlerFunc(hello), Profiles: WithProfiles, Names: []string{"node-1", ""},
	}, quiet())
	t.Cleanup(func() { _ = handler.Close() })
	for host, private := range map[string]int{
		"127.0.0.1:9717": http.StatusOK, "[::1]:9717": http.StatusOK, "[fe80::1%25eth0]": http.StatusOK, "192.0.2.7": http.StatusOK,
		"localhost:9717": http.StatusOK, "LOCALHOST.": http.StatusOK, "Node-1:9717": http.StatusOK, "": http.StatusOK,
		"rebound.example:9717": http.StatusMisdirectedRequest, "node-1.example": http.StatusMisdirectedRequest,
		"127.0.0.1.example:9717": http.StatusMisdirectedRequest, "localhost.example": http.StatusMisdirectedRequest, "2130706433": http.StatusMisdirectedRequest,
	} {
		for path, want := range map[string]int{
			"/": private, "/debug/pprof/": private, "/debug/pprof/cmdline": private,
			"/metrics": http.StatusOK, "/healthz": http.StatusOK, "/readyz": http.StatusOK, // no names in them
		} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			request.Host = host
			w := httptest.NewRecorder()
			if handler.server.Handler.ServeHTTP(w, request); w.Code != want {
				t.Errorf("%s under the name %q gives %d, want %d", path, host, w.Code, want)
			}
		}
	}
}
