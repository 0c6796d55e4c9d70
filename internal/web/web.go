// SPDX-License-Identifier: Apache-2.0

// Package web is the daemon's port: metrics and probes for machines, the status page
// and Go's profiles for people. Others than root may be able to reach it, so that each
// answer is bounded, and what has names in it is told to no browser that was led here
// under somebody else's name.
package web

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/neighpin/neighpin/internal/status"
)

// retryInterval is the time between two tries to get the metrics' port. During a
// rolling update the older daemon has it until it stops.
const retryInterval = time.Second

// connections bounds the connections that are served at once. Pods may be
// able to reach the port, and each takes a descriptor; more wait in the kernel.
const connections = 32

// scrapes is how many answers of /metrics are made at once. Each takes the processor
// for a millisecond or two, and a pin waits behind all of them: two servers scrape a
// node, and whoever asks without end has a place in the queue.
const scrapes = 2

// Server answers over TCP until Close.
type Server struct {
	server *http.Server
	log    logrus.FieldLogger
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Content is what the port serves.
type Content struct {
	// Metrics is for /metrics, by whatever name the host is called.
	Metrics http.Handler
	// Alive and Ready are for /healthz and /readyz: nil, or what is wrong.
	Alive, Ready func() error
	// Page is for people, at /; nil for none.
	Page http.Handler
	// Profiles are net/http/pprof's, at /debug/pprof/.
	Profiles Profiles
	// Names are what the host is called beside its addresses and localhost. The page
	// and the profiles are for requests to these alone.
	Names []string
}

// Profiles says whether Go's profiles are served.
type Profiles bool

// The values of Profiles.
const (
	WithoutProfiles Profiles = false
	WithProfiles    Profiles = true
)

// Serve begins to serve, or to try to: a port that is taken costs the answers for
// that time, never a pin.
func Serve(address string, content Content, log logrus.FieldLogger) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", few(scrapes, content.Metrics))
	mux.Handle("GET /healthz", status.Probe(content.Alive))
	mux.Handle("GET /readyz", status.Probe(content.Ready))
	private := func(path string, h http.Handler) { mux.Handle("GET "+path, calledBy(content.Names, h)) }
	if content.Page != nil {
		private("/{$}", content.Page)
	}
	if content.Profiles {
		private("/debug/pprof/", http.HandlerFunc(pprof.Index))
		private("/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline))
		private("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
		private("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
		private("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		server: &http.Server{Handler: mux, ReadTimeout: status.Timeout, WriteTimeout: 2 * status.Timeout, MaxHeaderBytes: 16 << 10},
		log:    log.WithField("address", address), cancel: cancel,
	}
	s.wg.Go(func() { s.run(ctx, address) })
	return s
}

// few has a handler work on some requests at once; others wait, and are told so when
// that takes too long. Who takes an answer slowly keeps nobody else from asking.
func few(limit int, next http.Handler) http.Handler {
	working := make(chan struct{}, limit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case working <- struct{}{}:
			a := answered{header: w.Header(), code: http.StatusOK}
			func() {
				defer func() { <-working }()
				next.ServeHTTP(&a, r)
			}()
			w.WriteHeader(a.code)
			_, _ = w.Write(a.body.Bytes()) // a client that left is no fault
		case <-r.Context().Done():
		case <-time.After(status.Timeout):
			http.Error(w, "too many ask at once; try again", http.StatusServiceUnavailable)
		}
	})
}

// answered is an answer that is made and not sent yet.
type answered struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header is that of the answer.
func (a *answered) Header() http.Header { return a.header }

// WriteHeader sets the code.
func (a *answered) WriteHeader(code int) { a.code = code }

// Write adds to the body.
func (a *answered) Write(data []byte) (int, error) { return a.body.Write(data) }

// run listens as soon as that is possible, and serves until the end.
func (s *Server) run(ctx context.Context, address string) {
	said := false
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			s.log.Info("serving metrics")
			if err := s.server.Serve(netutil.LimitListener(listener, connections)); !errors.Is(err, http.ErrServerClosed) {
				s.log.WithError(err).Error("metrics ended")
			}
			return
		}
		if !said && ctx.Err() == nil {
			said = true
			s.log.WithError(err).Warn("no metrics yet: the port cannot be had (another neighpin has it during an update); trying on")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryInterval):
		}
	}
}

// Close ends the serving, and waits for it.
func (s *Server) Close() error {
	s.cancel()
	err := s.server.Close()
	s.wg.Wait()
	return err
}
