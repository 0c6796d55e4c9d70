// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/record"
)

// apiServer is a fake: it knows Events of the core group, one token, and what a
// test tells it to answer. The suite on Kubernetes has the real one.
type apiServer struct {
	t       *testing.T
	http    *httptest.Server
	dir     string
	changed chan struct{} // a request was answered
	made    atomic.Int32  // connections
	ended   chan struct{} // a connection was

	mu       sync.Mutex // guards the following
	token    string
	events   map[string]object
	requests int
	refuse   func(method string) (code int, cause string)
	respond  http.HandlerFunc
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{t: t, dir: t.TempDir(), changed: make(chan struct{}, 1000), ended: make(chan struct{}, 1000), token: "first", events: make(map[string]object)}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.EnableHTTP2 = true                           // as the real one
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) //nolint:forbidigo // the server of the tests complains of clients that the tests make
	s.http.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.made.Add(1)
		case http.StateClosed:
			s.ended <- struct{}{}
		}
	}
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	s.writeToken("first\n")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(s.dir, "ca.crt"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *apiServer) writeToken(token string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "token"), []byte(token), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) address() Server {
	return Server{URL: s.http.URL, TokenFile: filepath.Join(s.dir, "token"), CAFile: filepath.Join(s.dir, "ca.crt")}
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.respond != nil {
		s.requests++
		s.respond(w, r)
		return
	}
	defer func() { s.changed <- struct{}{} }()
	s.requests++
	if r.Header.Get("User-Agent") != component || r.Header.Get("Accept") != "application/json" {
		s.t.Errorf("asked with %v", r.Header) // audits name who asks
	}
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		status(w, http.StatusUnauthorized, "")
		return
	}
	if s.refuse != nil {
		if code, cause := s.refuse(r.Method); code != 0 {
			status(w, code, cause)
			return
		}
	}
	namespace, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/"), "/events")
	name = strings.TrimPrefix(name, "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	switch r.Method {
	case http.MethodPost:
		s.create(w, r, namespace, body)
	case http.MethodPatch:
		s.patch(w, r, namespace+"/"+name, body)
	default:
		status(w, http.StatusForbidden, "") // no other verb is granted
	}
}

func (s *apiServer) create(w http.ResponseWriter, r *http.Request, namespace string, body []byte) {
	var event object
	if err := json.Unmarshal(body, &event); err != nil || r.Header.Get("Content-Type") != "application/json" {
		status(w, http.StatusBadRequest, "")
		return
	}
	// What the real one checks (k8s.io/kubernetes pkg/apis/core/validation, events.go).
	if event.APIVersion != "v1" || event.Kind != "Event" || event.Metadata.Namespace != namespace || event.InvolvedObject.Namespace != namespace {
		status(w, http.StatusUnprocessableEntity, "")
		return
	}
	key := namespace + "/" + event.Metadata.Name
	if _, there := s.events[key]; there {
		status(w, http.StatusConflict, "")
		return
	}
	s.events[key] = event
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(body)
}

func (s *apiServer) patch(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	event, there := s.events[key]
	if !there {
		status(w, http.StatusNotFound, "")
		return
	}
	if err := json.Unmarshal(body, &event); err != nil || r.Header.Get("Content-Type") != "application/merge-patch+json" {
		status(w, http.StatusUnsupportedMediaType, "")
		return
	}
	s.events[key] = event
	_, _ = w.Write(body)
}

func status(w http.ResponseWriter, code int, cause string) {
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"kind":"Status","message":"events is not to be had","details":{"causes":[{"reason":%q}]}}`, cause)
}

// all are the Events that there are.
func (s *apiServer) all() (list []object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range s.events {
		list = append(list, event)
	}
	return list
}

// answers tells what to refuse from now on.
func (s *apiServer) answers(refuse func(string) (int, string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// responds has another answer from now on.
func (s *apiServer) responds(respond http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = respond
}

// asked is how many requests came.
func (s *apiServer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// closed waits for the end of a connection.
func (s *apiServer) closed(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		t.Fatal("the connection stays")
	}
}

// answered waits for an answer.
func (s *apiServer) answered(t *testing.T) {
	t.Helper()
	select {
	case <-s.changed:
	case <-time.After(time.Minute):
		t.Fatal("the API server was not asked")
	}
}

// desk is a recorder with what it tells.
type desk struct {
	*Recorder
	outcomes chan Outcome
	faults   chan error
	passed   chan record.Event
}

// Report is the reporter behind the recorder.
func (d *desk) next() record.Reporter { return nextFunc(func(e record.Event) { d.passed <- e }) }

type nextFunc func(record.Event)

func (f nextFunc) Report(e record.Event) { f(e) }

func newDesk(t *testing.T, server Server) *desk {
	d := &desk{outcomes: make(chan Outcome, 5000), faults: make(chan error, 100), passed: make(chan record.Event, 5000)}
	d.Recorder = New(Options{
		Next: d.next(), Server: server, Node: "node-1",
		Count: func(o Outcome) { d.outcomes <- o }, Fault: func(err error) { d.faults <- err },
	})
	d.pacing = prompt()
	t.Cleanup(d.Close)
	return d
}

// prompt is for tests that are not about the pace.
func prompt() pacing { return pacing{burst: 1 << 20, refill: time.Millisecond, retry: time.Second} }

func (d *desk) outcome(t *testing.T, want Outcome) {
	t.Helper()
	select {
	case got := <-d.outcomes:
		if got != want || !slices.Contains(Outcomes(), got) {
			t.Fatalf("outcome %s, want %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no outcome, want %s", want)
	}
}

func (d *desk) fault(t *testing.T, words string) {
	t.Helper()
	select {
	case err := <-d.faults:
		if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Fatalf("fault %v, want %q", err, words)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no fault told, want %q", words)
	}
}
