// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// statusKeep is the time between two looks at who has the status socket's name.
const statusKeep = 3 * time.Second

// statusServer answers on a unix socket that only root can open. During a rolling
// update two daemons serve one node: the newcomer's socket takes the name. When
// that one is gone, killed or taken back, the older one takes the name again, so
// that its probes do not fail for somebody else's end.
type statusServer struct {
	server *http.Server
	path   string
	log    logrus.FieldLogger
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the following
	listener *net.UnixListener
	file     os.FileInfo // the socket's, to tell it from another daemon's
}

// serveStatus answers in the state directory until Close.
func serveStatus(stateDir string, snapshot func() Status, alive func() error, log logrus.FieldLogger, more ...route) (*statusServer, error) {
	return serveStatusEvery(statusKeep, stateDir, snapshot, alive, log, more...)
}

func serveStatusEvery(keep time.Duration, stateDir string, snapshot func() Status, alive func() error, log logrus.FieldLogger, more ...route) (*statusServer, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := snapshot().write(w); err != nil {
			log.WithError(err).Debug("status asked for by somebody who left")
		}
	})
	mux.HandleFunc("GET "+livePath, func(w http.ResponseWriter, _ *http.Request) { answer(w, alive()) })
	for _, r := range more {
		mux.Handle("GET "+r.path, r.handler)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &statusServer{
		server: &http.Server{Handler: mux, ReadTimeout: statusTimeout, WriteTimeout: statusTimeout},
		path:   filepath.Join(stateDir, socketName), log: log, stop: stop,
	}
	if err := s.take(); err != nil {
		stop()
		return nil, err
	}
	s.wg.Go(func() { s.keep(ctx, keep) })
	return s, nil
}

// take gives the name to a socket of this daemon's.
func (s *statusServer) take() error {
	own := s.path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old status socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: own, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	// Nobody can connect by the real name before the mode is set.
	err = os.Chmod(own, 0o600)
	var file os.FileInfo
	if err == nil {
		file, err = os.Stat(own)
	}
	if err == nil {
		err = os.Rename(own, s.path)
	}
	if err != nil {
		_ = os.Remove(own)
		return errors.Join(fmt.Errorf("set up status socket: %w", err), listener.Close())
	}
	s.mu.Lock()
	before := s.listener
	s.listener, s.file = listener, file
	s.mu.Unlock()
	if before != nil {
		_ = before.Close() // which has no name any more
	}
	s.wg.Go(func() {
		err := s.server.Serve(listener)
		s.mu.Lock()
		current := s.listener == listener
		s.mu.Unlock()
		if current && !errors.Is(err, http.ErrServerClosed) {
			s.log.WithError(err).Error("status socket ended")
		}
	})
	return nil
}

// keep takes the name again when nobody answers by it.
func (s *statusServer) keep(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", s.path)
		switch {
		case err == nil:
			_ = conn.Close()
		case ctx.Err() != nil:
			return
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
			if err := s.take(); err != nil {
				s.log.WithError(err).Debug("the status socket's name cannot be taken again")
			} else {
				s.log.Info("answering on the status socket again: whoever had its name is gone")
			}
		}
	}
}

// Close ends the server and removes its socket, unless another daemon's stands
// in its place.
func (s *statusServer) Close() error {
	s.stop()
	err := s.server.Close()
	s.wg.Wait()
	if now, statErr := os.Stat(s.path); statErr == nil && os.SameFile(now, s.file) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
