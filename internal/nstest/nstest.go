// SPDX-License-Identifier: Apache-2.0

// Package nstest makes network namespaces for tests, with links, addresses and
// routes as `ip` makes them, and takes them away again. The tests need root and
// iproute2; nothing outside the made namespaces is changed, except for bind
// mounts in the test's own folder.
package nstest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/netns"
)

// NS is a namespace that lives as long as its test.
type NS struct {
	*netns.NS
	tb testing.TB
}

// New makes an empty namespace whose loopback is up.
func New(tb testing.TB) *NS {
	tb.Helper()
	type made struct {
		fd  int
		err error
	}
	c := make(chan made)
	go makeNamespace(func(fd int, err error) { c <- made{fd, err} })
	m := <-c
	if m.err != nil {
		tb.Fatal(m.err)
	}
	defer unix.Close(m.fd)
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", m.fd))
	if err != nil {
		tb.Fatal(err)
	}
	n := &NS{NS: ns, tb: tb}
	tb.Cleanup(func() { _ = ns.Close() })
	n.IP("link set lo up")
	return n
}

// makeNamespace makes a namespace and gives a descriptor of it, or an error, to
// result. Its goroutine is never unlocked: the thread ends with it, so that no
// other work can come to run in the new namespace.
func makeNamespace(result func(fd int, err error)) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The process's first thread never ends, and what namespace it is in
		// is taken for the whole process's. Hold it and use another.
		done := make(chan struct{})
		go func() {
			defer close(done)
			makeNamespace(result)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		result(-1, fmt.Errorf("make namespace (root?): %w", err))
		return
	}
	result(unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0))
}

// Ref is a path by which other programs reach the namespace while the test runs.
func (n *NS) Ref() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.FD()) }

// Mount binds the namespace to a new file in a folder of the test and returns
// the file's path.
func (n *NS) Mount() string {
	n.tb.Helper()
	path := filepath.Join(n.tb.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		n.tb.Fatal(err)
	}
	n.MountAt(path)
	return path
}

// MountAt binds the namespace to a file that exists.
func (n *NS) MountAt(path string) {
	n.tb.Helper()
	if err := unix.Mount(n.Ref(), path, "", unix.MS_BIND, ""); err != nil {
		n.tb.Fatalf("mount namespace at %s: %v", path, err)
	}
	n.tb.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
}

// IP runs each line as an `ip` command in the namespace, and the test fails if
// one does.
func (n *NS) IP(lines ...string) {
	n.tb.Helper()
	if out, err := n.TryIP(lines...); err != nil {
		n.tb.Fatalf("ip: %v\n%s\nof:\n%s", err, out, strings.Join(lines, "\n"))
	}
}

// TryIP is IP for lines that may fail.
func (n *NS) TryIP(lines ...string) (string, error) {
	return n.run(strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
}

// Output runs one `ip` command and returns what it prints.
func (n *NS) Output(args ...string) string {
	n.tb.Helper()
	out, err := n.run("", "ip", args...)
	if err != nil {
		n.tb.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Run runs a program in the namespace and returns what it prints.
func (n *NS) Run(name string, args ...string) (string, error) { return n.run("", name, args...) }

// run starts a program on a thread that is in the namespace, which the program
// inherits.
func (n *NS) run(stdin, name string, args ...string) (string, error) {
	var out bytes.Buffer
	err := n.Do(func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	return out.String(), err
}

// Sysctl sets a parameter of the namespace, named like
// "net/ipv6/conf/eth0/disable_ipv6".
func (n *NS) Sysctl(name, value string) {
	n.tb.Helper()
	err := n.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
	if err != nil {
		n.tb.Fatal(err)
	}
}

// Veth makes a pair, the one end here and the other in peer, both up and
// without IPv6's own detection of duplicate addresses.
func (n *NS) Veth(name string, peer *NS, peerName string) {
	n.tb.Helper()
	n.IP(fmt.Sprintf("link add %s type veth peer name %s netns %s", name, peerName, peer.Ref()))
	n.Sysctl("net/ipv6/conf/"+name+"/accept_dad", "0")
	peer.Sysctl("net/ipv6/conf/"+peerName+"/accept_dad", "0")
	n.IP("link set " + name + " up")
	peer.IP("link set " + peerName + " up")
}

// MAC returns the address of a link.
func (n *NS) MAC(link string) string {
	n.tb.Helper()
	var mac string
	err := n.Do(func() error {
		// A mount of sysfs shows the namespace that it was made in, so that
		// it does not serve here.
		out, err := exec.Command("ip", "-oneline", "link", "show", "dev", link).Output()
		if _, rest, ok := strings.Cut(string(out), "link/ether "); ok {
			mac, _, _ = strings.Cut(rest, " ")
		}
		return err
	})
	if err != nil || mac == "" {
		n.tb.Fatalf("read address of %s: %q, %v", link, mac, err)
	}
	return mac
}

// patience bounds every wait for the kernel, and for what is tested: a machine on
// which much else runs gives both a fraction of its time.
const patience = time.Minute

// Eventually looks until ok is true, and fails the test with what when that
// takes too long. A look that takes long is made less often: what is waited for
// wants the processor, too, and perhaps the same lock.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	end := time.After(patience)
	for {
		began := time.Now()
		if ok() {
			return
		}
		select {
		case <-time.After(max(time.Millisecond, 4*time.Since(began))):
		case <-end:
			tb.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// Unmount takes a bind mount away, at once for new users of its path.
func Unmount(path string) error {
	return unix.Unmount(path, unix.MNT_DETACH)
}
