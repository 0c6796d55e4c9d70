// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/netns"
)

// A kernel before 5.14 is refused in a sentence that names the version needed and
// the one that is there; by inode numbers one sandbox would be taken for another.
func TestKernelWithoutCookiesIsRefused(t *testing.T) {
	pod := nstest.New(t)
	open := func(run func(*exec.Cmd) error) (string, int) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), openEnv+"="+pod.Ref())
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		err := run(cmd)
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	said, code := open(func(cmd *exec.Cmd) error { return nstest.RunWithoutCookies(t, cmd) })
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{pod.Ref(), "Linux 5.14 or newer is needed", "this is " + unix.ByteSliceToString(name.Release[:])} {
		if !strings.Contains(said, want) {
			t.Errorf("%q lacks %q", said, want)
		}
	}
	if code != 3 || !strings.Contains(said, "of that kind: true") {
		t.Errorf("exit code %d: %s", code, said)
	}
	// Without the filter the same program opens it: nothing else was in the way.
	want := "opened, cookie " + strconv.FormatUint(pod.Cookie(), 10)
	if said, code = open((*exec.Cmd).Run); code != 0 || strings.TrimSpace(said) != want {
		t.Errorf("this kernel: exit code %d, %q, want %q", code, said, want)
	}
}

// The file at a path is another one by the time that what was opened is used.
// Each replacement is one that an attacker, or a runtime that gives out a name
// again, could make.
func TestPathThatIsReplacedBetweenOpenAndUse(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"by another namespace": func(t *testing.T, path string) { nstest.New(t).MountAt(path) },
		"by the host's": func(t *testing.T, path string) {
			if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
		},
		"by nothing": func(t *testing.T, path string) {
			if err := errors.Join(nstest.Unmount(path), os.Remove(path)); err != nil {
				t.Fatal(err)
			}
		},
		"by a link to the host's": func(t *testing.T, path string) {
			if err := errors.Join(nstest.Unmount(path), os.Remove(path), os.Symlink("/proc/self/ns/net", path)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			host, err := netns.NewHost()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = host.Close() }()
			pod := nstest.New(t)
			path := pod.Mount()
			ns, err := host.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			replace(t, path)
			inside := func() (cookie uint64) {
				if err := ns.Do(func() error {
					at, err := netns.Open("/proc/thread-self/ns/net")
					if err != nil {
						return err
					}
					cookie = at.Cookie()
					return at.Close()
				}); err != nil {
					t.Fatal(err)
				}
				return cookie
			}
			if got := inside(); got != pod.Cookie() || ns.Cookie() != pod.Cookie() {
				t.Errorf("in namespace %d, said to be %d, opened as %d", got, ns.Cookie(), pod.Cookie())
			}
			if netns.Exists(path, pod.Cookie()) {
				t.Error("what is at the path now is taken for what was there")
			}
		})
	}
}

// Process 1's namespace under a pod's name is the host's as well, also for a
// process that is in another one itself, as in a container that sees the host's
// process ids. That needs a process 1 that may be looked into: one is made.
func TestNamespaceOfProcessOneUnderAPodsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cni-1")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(source string) string {
		cmd := exec.Command("sh", "-ec", `mount -t proc proc /proc; mount --bind "$1" "$2"; unshare --net sh -c "$3"; true`,
			"sh", source, path, strconv.Quote(program(t))+" || true")
		cmd.Env = append(os.Environ(), openEnv+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if said := open("/proc/1/ns/net"); !strings.Contains(said, netns.ErrHost.Error()) {
		t.Errorf("process 1's: %q", said)
	}
	if said := open(nstest.New(t).Mount()); !strings.Contains(said, "opened, cookie") {
		t.Errorf("a pod's: %q", said)
	}
}

// program is the test's own.
func program(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
