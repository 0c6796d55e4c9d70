// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// insideEnv tells the second process of MainInside from the first.
const insideEnv = "NEIGHPIN_TEST_INSIDE"

// MainInside is Main in a process of its own, whose namespace is a new one, so
// that tests may do in it what only the host's namespace is for; see Own.
func MainInside(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		Main(m)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:gosec // itself, as it was called
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		os.Exit(failed.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "run tests in a namespace of their own (root?):", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Own is the namespace of the process itself, which MainInside has made: for the
// code under test it is the host's. All tests of a package share it, so that each
// removes what it makes there.
func Own(tb testing.TB) *NS {
	tb.Helper()
	if os.Getenv(insideEnv) == "" {
		tb.Fatal("not in a namespace of its own: the package's TestMain wants to be MainInside")
	}
	ns, err := netns.Self()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ns.Close() })
	n := &NS{NS: ns, tb: tb}
	n.IP("link set lo up")
	return n
}
