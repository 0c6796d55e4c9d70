// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/netns"
)

func newHost(t *testing.T) *netns.Host {
	t.Helper()
	host, err := netns.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return host
}

func udp() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) }

func TestSocketIsOfTheNamespaceAndTellsWhich(t *testing.T) {
	host, pod := newHost(t), nstest.New(t)
	path := pod.Mount()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				fd, cookie, err := host.Socket(path, udp)
				if err != nil || cookie != pod.Cookie() {
					t.Errorf("cookie %d, %v; want %d", cookie, err, pod.Cookie())
					return
				}
				of, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
				if err != nil || of != cookie {
					t.Errorf("the socket is of %d, %v", of, err)
				}
				_ = unix.Close(fd)
			}
		})
	}
	all.Wait()
	// Whoever visited is back: any thread makes sockets at home.
	for range 50 {
		all.Go(func() {
			if self, err := netns.Self(); err != nil || self.Cookie() != host.Self().Cookie() || self.Close() != nil {
				t.Error("a thread was left elsewhere")
			}
		})
	}
	all.Wait()
}

// What is refused leaves no socket open: the package's TestMain counts.
func TestSocketIsRefused(t *testing.T) {
	host, dir := newHost(t), t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	own := errors.New("no socket today")
	none := func() (int, error) { return -1, own }
	noSocket := func() (int, error) { return unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0) }
	pod := nstest.New(t).Mount()
	for name, c := range map[string]struct {
		path string
		make func() (int, error)
		want error
	}{
		"the host's":                  {"/proc/self/ns/net", udp, netns.ErrHost},
		"nothing there":               {filepath.Join(dir, "none"), udp, fs.ErrNotExist},
		"a file":                      {file, udp, netns.ErrNotNamespace},
		"a FIFO":                      {fifo, udp, netns.ErrNotNamespace},
		"a directory":                 {dir, udp, netns.ErrNotNamespace},
		"a namespace of another kind": {"/proc/self/ns/uts", udp, netns.ErrNotNamespace},
		"the caller's own error":      {pod, none, own},
		"what is made is no socket":   {pod, noSocket, unix.ENOTSOCK},
	} {
		fd, cookie, err := host.Socket(c.path, c.make)
		if !errors.Is(err, c.want) || fd != -1 || cookie != 0 {
			t.Errorf("%s: %d, %d, %v", name, fd, cookie, err)
		}
		if wrapped := (*netns.Error)(nil); !errors.As(err, &wrapped) && !errors.Is(err, own) {
			t.Errorf("%s: %v does not say what was tried", name, err)
		}
	}
	_ = host.Close()
	if _, _, err := host.Socket(pod, udp); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// The function ends its goroutine, and the thread that it was on ends with it.
func TestSocketWhoseMakerEnds(t *testing.T) {
	host, pod := newHost(t), nstest.New(t)
	done := make(chan error, 1)
	go func() {
		_, _, err := host.Socket(pod.Mount(), func() (int, error) { runtime.Goexit(); return -1, nil })
		done <- err
	}()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}

// What a visit is to return to stays open until it has.
func TestHostThatIsClosedDuringAVisit(t *testing.T) {
	host, path := newHost(t), nstest.New(t).Mount()
	home := host.Self().Cookie()
	inside, leave, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	visited := make(chan error, 1)
	go func() {
		fd, _, err := host.Socket(path, func() (int, error) {
			close(inside)
			<-leave
			return udp()
		})
		visited <- errors.Join(err, unix.Close(fd))
	}()
	<-inside
	go func() { closed <- host.Close() }()
	// Nobody else comes in once Close waits, and what the visit needs is there.
	nstest.Eventually(t, "Close to wait", func() bool { return netns.Awaited(host) })
	select {
	case err := <-closed:
		t.Errorf("closed during a visit: %v", err)
	default:
	}
	close(leave)
	if err := errors.Join(<-visited, <-closed); err != nil {
		t.Error(err)
	}
	self, err := netns.Self()
	if err != nil || self.Cookie() != home {
		t.Fatalf("a thread was left elsewhere: %v", err)
	}
	_ = self.Close()
}
