// SPDX-License-Identifier: Apache-2.0

package main

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
)

// metricsRetry is the time between two tries to get the metrics' port. During a
// rolling update the older daemon has it until it stops.
const metricsRetry = time.Second

// metricsConnections bounds the connections that are served at once. Pods may be
// able to reach the port, and each takes a descriptor; more wait in the kernel.
const metricsConnections = 32

// scrapes is how many answers of /metrics are made at once. Each takes the processor
// for a millisecond or two, and a pin waits behind all of them: two servers scrape a
// node, and whoever asks without end has a place in the queue.
const scrapes = 2

// metricsServer answers /metrics, /healthz and /readyz over TCP, shows the status
// page, and profiles where that is asked for.
type metricsServer struct {
	server *http.Server
	log    logrus.FieldLogger
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// pages are what the metrics' port serves beside the probes.
type pages struct {
	metrics http.Handler
	status  http.Handler // the page for people; nil for none
	profile bool         // net/http/pprof
}

// serveMetrics begins to serve, or to try to: a port that is taken costs the
// metrics for that time, never a pin.
func serveMetrics(address string, pages pages, probes probes, log logrus.FieldLogger) *metricsServer {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", few(scrapes, pages.metrics))
	if pages.status != nil {
		mux.Handle("GET /{$}", pages.status)
	}
	if pages.profile {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, probes.alive()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, probes.ready()) })
	ctx, cancel := context.WithCancel(context.Background())
	s := &metricsServer{
		server: &http.Server{Handler: mux, ReadTimeout: statusTimeout, WriteTimeout: 2 * statusTimeout, MaxHeaderBytes: 16 << 10},
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
		case <-time.After(statusTimeout):
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

// probes are what an orchestrator asks: nil, or what is wrong.
type probes struct {
	alive, ready func() error
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n")) // a client that left is no fault
}

// run listens as soon as that is possible, and serves until the end.
func (s *metricsServer) run(ctx context.Context, address string) {
	said := false
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			s.log.Info("serving metrics")
			if err := s.server.Serve(netutil.LimitListener(listener, metricsConnections)); !errors.Is(err, http.ErrServerClosed) {
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
		case <-time.After(metricsRetry):
		}
	}
}

// Close ends the serving.
func (s *metricsServer) Close() error {
	s.cancel()
	err := s.server.Close()
	s.wg.Wait()
	return err
}
