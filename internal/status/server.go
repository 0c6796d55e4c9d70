// SPDX-License-Identifier: Apache-2.0

package status

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

// keepInterval is the time between two looks at who has the status socket's name.
const keepInterval = 3 * time.Second

// Server answers on a unix socket that only root can open. During a rolling
// update two daemons serve one node: the newcomer's socket takes the name. When
// that one is gone, killed or taken back, the older one takes the name again, so
// that its probes do not fail for somebody else's end.
type Server struct {
	server *http.Server
	path   string
	log    logrus.FieldLogger
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the following
	listener *net.UnixListener
	file     os.FileInfo // the socket's, to tell it from another daemon's
}

// Answers are what the daemon answers with.
type Answers struct {
	// Status is the whole, asked for at each question.
	Status func() Status
	// Alive and Ready are nil, or what is wrong. What each costs does not depend on
	// how many sandboxes there are.
	Alive, Ready func() error
	// Details are further answers by their path, such as ConfigPath.
	Details map[string]http.Handler
}

// Serve answers in the state directory until Close.
func Serve(stateDir string, answers Answers, log logrus.FieldLogger) (*Server, error) {
	return serveEvery(keepInterval, stateDir, answers, log)
}

func serveEvery(keep time.Duration, stateDir string, answers Answers, log logrus.FieldLogger) (*Server, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := answers.Status().Write(w); err != nil {
			log.WithError(err).Debug("status asked for by somebody who left")
		}
	})
	for path, probe := range map[string]func() error{livePath: answers.Alive, readyPath: answers.Ready} {
		if probe != nil {
			mux.Handle("GET "+path, Probe(probe))
		}
	}
	for path, detail := range answers.Details {
		mux.Handle("GET "+path, detail)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{
		server: &http.Server{Handler: mux, ReadTimeout: Timeout, WriteTimeout: Timeout},
		path:   filepath.Join(stateDir, socketName), log: log, stop: stop,
	}
	if err := s.take(); err != nil {
		stop()
		return nil, err
	}
	s.wg.Go(func() { s.keep(ctx, keep) })
	return s, nil
}

// Probe answers with "ok", or with what a check says is wrong and 503.
func Probe(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // a client that left is no fault
	})
}

// take gives the name to a socket of this daemon's.
func (s *Server) take() error {
	own := s.path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old status socket: %w", err)
	}
	listener, err := listen(own)
	if err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	file, err := os.Stat(own)
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

// listen makes a socket that never had another mode than 0600: it is given to the
// socket before it has a name, and the name has it from the socket (net/unix/af_unix.c,
// unix_bind_bsd). A mode that is set afterwards would let in who connects in between.
func listen(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, socket syscall.RawConn) error {
		var mode error
		if err := socket.Control(func(fd uintptr) { mode = syscall.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return mode
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	unix, ok := listener.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: %T is no unix socket", path, listener), listener.Close())
	}
	return unix, nil
}

// keep takes the name again when nobody answers by it.
func (s *Server) keep(ctx context.Context, interval time.Duration) {
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

// Close ends the server, waits for it, and removes its socket, unless another daemon's stands
// in its place.
func (s *Server) Close() error {
	s.stop()
	err := s.server.Close()
	s.wg.Wait()
	if now, statErr := os.Stat(s.path); statErr == nil && os.SameFile(now, s.file) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
