// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/internal/status"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: status.Timeout}
	response, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

func quiet() logrus.FieldLogger { log, _ := logtest.NewNullLogger(); return log }

func fine() error { return nil }

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics here")) }

// As during a rolling update: the older daemon has the port until it stops.
func TestMetricsWaitForTheirPort(t *testing.T) {
	older, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := older.Addr().String()
	log, said := logtest.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	server := Serve(address, Content{Metrics: http.HandlerFunc(hello), Alive: fine, Ready: func() error { return errors.New("not ready") }}, log)
	nstest.Eventually(t, "the taken port to be said", func() bool { return len(said.AllEntries()) == 1 })
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, "the metrics to be served", func() bool {
		code, body := get(t, "http://"+address+"/metrics")
		return code == http.StatusOK && body == "metrics here"
	})
	if code, _ := get(t, "http://"+address+"/healthz"); code != http.StatusOK {
		t.Errorf("/healthz gives %d", code)
	}
	if code, body := get(t, "http://"+address+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "not ready") {
		t.Errorf("/readyz gives %d %q before the synchronization", code, body)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if n := len(said.AllEntries()); n != 2 {
		t.Errorf("%d lines in the log, want one for the taken port and one for the success", n)
	}
}

func TestMetricsStopWhileTheyWaitForTheirPort(t *testing.T) {
	older, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = older.Close() }()
	log, said := logtest.NewNullLogger()
	server := Serve(older.Addr().String(), Content{Metrics: http.HandlerFunc(hello), Alive: fine, Ready: fine}, log)
	nstest.Eventually(t, "the taken port to be said", func() bool { return len(said.AllEntries()) == 1 })
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

// The port may be one that every pod can reach. Who opens connections without end
// must not take the descriptors that pins need.
func TestMetricsTakeABoundedNumberOfConnections(t *testing.T) {
	address := freeAddress(t)
	var served atomic.Int32
	release := make(chan struct{})
	log, _ := logtest.NewNullLogger()
	server := Serve(address, Content{Metrics: http.HandlerFunc(hello), Ready: fine, Alive: func() error {
		served.Add(1)
		<-release
		return nil
	}}, log)
	defer func() { _ = server.Close() }()
	nstest.Eventually(t, "the metrics to be served", func() bool { code, _ := get(t, "http://"+address+"/readyz"); return code == http.StatusOK })
	for range 2 * connections {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Eventually(t, "as many to be served as may", func() bool { return served.Load() >= connections })
	waiting := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 300 * time.Millisecond}
	if response, err := waiting.Get("http://" + address + "/readyz"); err == nil {
		_ = response.Body.Close()
		t.Errorf("one more was served beside %d", served.Load())
	}
	close(release)
	nstest.Eventually(t, "the others to be served then", func() bool { return served.Load() == 2*connections })
	if code, _ := get(t, "http://"+address+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz gives %d afterwards", code)
	}
}

// Whoever asks without end waits in a queue, and not the pins behind him.
func TestFewScrapesAreWorkedOnAtOnce(t *testing.T) {
	entered, goAhead := make(chan struct{}, 10), make(chan struct{})
	h := few(scrapes, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-goAhead }))
	ask := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
		return w.Code
	}
	codes := make(chan int, scrapes+1)
	for range scrapes {
		go func() { codes <- ask(context.Background()) }()
		<-entered
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	ask(gone) // returns, and nobody worked on it
	go func() { codes <- ask(context.Background()) }()
	select {
	case <-entered:
		t.Error("one more is worked on")
	case <-time.After(50 * time.Millisecond):
	}
	close(goAhead)
	for range scrapes + 1 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("answered with %d", code)
		}
	}
}

// slowReader is who asks and then takes nothing.
type slowReader struct {
	http.ResponseWriter
	asked, until chan struct{}
}

func (w slowReader) Write([]byte) (int, error) {
	w.asked <- struct{}{}
	<-w.until
	return 0, io.ErrClosedPipe
}

func TestWhoTakesTheMetricsSlowlyKeepsNobodyElseFromThem(t *testing.T) {
	h := few(scrapes, http.HandlerFunc(hello))
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	asked, until := make(chan struct{}), make(chan struct{})
	var reading sync.WaitGroup
	defer reading.Wait()
	defer close(until)
	for range 2 * scrapes {
		reading.Go(func() { h.ServeHTTP(slowReader{httptest.NewRecorder(), asked, until}, request) })
		<-asked
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, request); w.Code != http.StatusOK || w.Body.String() != "metrics here" {
		t.Errorf("answered with %d %q", w.Code, w.Body)
	}
}

// served is the address of a server that has a page, and profiles if that is asked for.
func served(t *testing.T, content Content) string {
	t.Helper()
	address := freeAddress(t)
	log, _ := logtest.NewNullLogger()
	content.Metrics, content.Page = http.HandlerFunc(hello), http.HandlerFunc(hello)
	server := Serve(address, content, log)
	t.Cleanup(func() { _ = server.Close() })
	nstest.Eventually(t, "the page to be served", func() bool { code, _ := get(t, "http://"+address+"/"); return code == http.StatusOK })
	return "http://" + address
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	for profiles, want := range map[Profiles]int{WithoutProfiles: http.StatusNotFound, WithProfiles: http.StatusOK} {
		at := served(t, Content{Alive: fine, Ready: fine, Profiles: profiles})
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1"} {
			if code, _ := get(t, at+path); code != want {
				t.Errorf("profiles %t: %s gives %d, want %d", profiles, path, code, want)
			}
		}
		if code, _ := get(t, at+"/other"); code != http.StatusNotFound {
			t.Errorf("a path of nothing gives %d", code)
		}
	}
}

func TestProbesSayWhatIsMissing(t *testing.T) {
	stuck, missing := errors.New("the engine is stuck"), errors.New("not connected to NRI")
	at := served(t, Content{Alive: func() error { return stuck }, Ready: func() error { return missing }})
	for path, want := range map[string]error{"/readyz": missing, "/healthz": stuck} {
		if code, body := get(t, at+path); code != http.StatusServiceUnavailable || !strings.Contains(body, want.Error()) {
			t.Errorf("%s gives %d %q, want %q", path, code, body, want)
		}
	}
}
