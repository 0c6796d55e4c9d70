// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/netns"
)

func TestOpenRefusesWhatIsNoNetworkNamespace(t *testing.T) {
	dir := t.TempDir()
	regular := filepath.Join(dir, "regular")
	if err := os.WriteFile(regular, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo") // a plain open would wait for a writer
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		regular:                     netns.ErrNotNamespace,
		fifo:                        netns.ErrNotNamespace,
		dir:                         netns.ErrNotNamespace,
		"/dev/null":                 netns.ErrNotNamespace,
		"/proc/self/ns/uts":         netns.ErrNotNamespace,
		"/proc/self/ns/mnt":         netns.ErrNotNamespace,
		filepath.Join(dir, "none"):  fs.ErrNotExist,
		filepath.Join(regular, "x"): unix.ENOTDIR,
		"":                          fs.ErrNotExist,
		"/proc/self/ns/net\x00":     unix.EINVAL,
	} {
		ns, err := netns.Open(path)
		if err == nil {
			ns.Close()
		}
		var typed *netns.Error
		if !errors.Is(err, want) || !errors.As(err, &typed) || typed.Path != path {
			t.Errorf("Open(%q): error %v, want *Error wrapping %v", path, err, want)
		}
	}
}

func TestErrorsDoNotCarryControlCharacters(t *testing.T) {
	_, err := netns.Open("/no/such\n2026 level=info msg=forged\x1b[2J")
	if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Fatalf("error %q", err)
	}
}

func TestIdentityIsTheNamespaceAndNotThePath(t *testing.T) {
	a, b := nstest.New(t), nstest.New(t)
	path := a.Mount()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link, a.Ref()} {
		ns, err := netns.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if ns.Cookie() != a.Cookie() || ns.Path() != p {
			t.Errorf("%s: cookie %d of %s, want %d", p, ns.Cookie(), ns.Path(), a.Cookie())
		}
		ns.Close()
	}
	if a.Cookie() == b.Cookie() || a.Cookie() == 0 {
		t.Errorf("cookies %d and %d", a.Cookie(), b.Cookie())
	}
}

// The kernel gives the inode number of a dead namespace to the next one; the
// cookie tells them apart.
func TestCookieDiffersWhereTheInodeIsReused(t *testing.T) {
	inodes := make(map[uint64]uint64)
	reused := false
	nstest.Eventually(t, "an inode number to be used again", func() bool {
		t.Run("namespace", func(t *testing.T) {
			ns := nstest.New(t)
			var st unix.Stat_t
			if err := unix.Fstat(ns.FD(), &st); err != nil {
				t.Fatal(err)
			}
			if old, ok := inodes[st.Ino]; ok {
				reused = true
				if old == ns.Cookie() {
					t.Errorf("inode %d came again with the same cookie %d", st.Ino, old)
				}
			}
			inodes[st.Ino] = ns.Cookie()
		})
		return reused
	})
}

func TestDoRunsInsideAndLeavesNoTrace(t *testing.T) {
	ns := nstest.New(t)
	self, err := netns.Self()
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if self.Cookie() == ns.Cookie() {
		t.Fatal("the test runs in the namespace that it has just made")
	}
	// More than there are threads, so that every thread is used again.
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			err := ns.Do(func() error {
				inside, err := netns.Open("/proc/thread-self/ns/net")
				if err != nil {
					return err
				}
				defer inside.Close()
				if inside.Cookie() != ns.Cookie() {
					t.Errorf("inside: cookie %d, want %d", inside.Cookie(), ns.Cookie())
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			outside, err := netns.Open("/proc/thread-self/ns/net")
			if err != nil {
				t.Error(err)
				return
			}
			defer outside.Close()
			if outside.Cookie() != self.Cookie() {
				t.Errorf("outside: cookie %d, want %d", outside.Cookie(), self.Cookie())
			}
		})
	}
	all.Wait()
}

func TestDoReturnsTheFunctionsError(t *testing.T) {
	ns := nstest.New(t)
	want := errors.New("mine")
	if err := ns.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error although the function ended its goroutine")
	}
}

func TestCloseIsFinalAndIdempotent(t *testing.T) {
	ns := nstest.New(t)
	for range 2 {
		if err := ns.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if fd := ns.FD(); fd != -1 {
		t.Errorf("descriptor %d after Close", fd)
	}
	if err := ns.Do(func() error { return nil }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Do after Close: %v", err)
	}
}

func TestHostIsRefusedByWhateverPath(t *testing.T) {
	host, err := netns.NewHost()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = host.Close() }()
	mounted := filepath.Join(t.TempDir(), "mounted")
	if err := os.WriteFile(mounted, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/self/ns/net", mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) }()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(mounted, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/proc/self/ns/net", "/proc/1/ns/net", "/proc/thread-self/ns/net", mounted, link} {
		// Where process 1 may not be looked into, that is refused as well.
		refused := func(err error) bool {
			return errors.Is(err, netns.ErrHost) || path == "/proc/1/ns/net" && errors.Is(err, fs.ErrPermission)
		}
		if _, err := host.Open(path); !refused(err) {
			t.Errorf("Open(%s): %v", path, err)
		}
		if _, _, err := host.Socket(path, udp); !refused(err) {
			t.Errorf("Socket(%s): %v", path, err)
		}
		if _, err := host.OpenMounted(t.Context(), path); !refused(err) {
			t.Errorf("OpenMounted(%s): %v", path, err)
		}
	}
	pod := nstest.New(t)
	ns, err := host.Open(pod.Mount())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
}

func TestANamespaceExistsOnlyWhereItsCookieIs(t *testing.T) {
	a, b := nstest.New(t), nstest.New(t)
	path := a.Mount()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		path   string
		cookie uint64
		want   bool
	}{
		{"that one", path, a.Cookie(), true},
		{"another one at its place", path, b.Cookie(), false},
		{"nothing", path + "-gone", a.Cookie(), false},
		{"the file without its mount", empty, a.Cookie(), false},
		{"cannot be told", "/proc/self/mem/\x00", a.Cookie(), true},
	} {
		if got := netns.Exists(c.path, c.cookie); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestOpenMountedWaitsForTheMount(t *testing.T) {
	host, pod := newHost(t), nstest.New(t)
	path := filepath.Join(t.TempDir(), "cni-1")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Open(path); !errors.Is(err, netns.ErrNotNamespace) {
		t.Fatalf("Open of the empty file: %v", err)
	}
	type opened struct {
		ns  *netns.NS
		err error
	}
	c := make(chan opened)
	go func() {
		ns, err := host.OpenMounted(t.Context(), path)
		c <- opened{ns, err}
	}()
	pod.MountAt(path)
	got := <-c
	if got.err != nil {
		t.Fatal(got.err)
	}
	defer got.ns.Close()
	if got.ns.Cookie() != pod.Cookie() {
		t.Errorf("cookie %d, want %d", got.ns.Cookie(), pod.Cookie())
	}
}

func TestOpenMountedGivesUp(t *testing.T) {
	host, dir := newHost(t), t.TempDir()
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(full, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Run("when the context ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := host.OpenMounted(ctx, empty); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("when the file goes", func(t *testing.T) {
		c := make(chan error)
		go func() {
			_, err := host.OpenMounted(t.Context(), empty)
			c <- err
		}()
		if err := os.Remove(empty); err != nil {
			t.Fatal(err)
		}
		if err := <-c; !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("when it is a file of another kind", func(t *testing.T) {
		for _, path := range []string{full, dir, "/dev/null", "/proc/self/ns/uts"} {
			if _, err := host.OpenMounted(t.Context(), path); !errors.Is(err, netns.ErrNotNamespace) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}
