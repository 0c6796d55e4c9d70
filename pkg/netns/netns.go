// SPDX-License-Identifier: Apache-2.0

// Package netns treats a network namespace as a handle: opened once, known by
// the kernel's own identity for it, entered only on threads that are thrown
// away, and watched for by name.
//
// A namespace is identified by its cookie (SO_NETNS_COOKIE, Linux 5.14). The
// kernel never uses a cookie twice, which is not true of the inode number that
// stat shows for /proc/PID/ns/net, nor of a path.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// NS is an open network namespace. Its methods may be called from several
// goroutines at once.
//
// The descriptor in it keeps the namespace alive, so that an NS held longer
// than its sandbox delays the removal of every link in it.
type NS struct {
	path   string
	cookie uint64

	mu     sync.RWMutex // guards fd, which is -1 once closed
	fd     int
	closed bool
}

// Open opens the network namespace at path: a bind mount such as those in
// /var/run/netns, or a link such as /proc/PID/ns/net. The identity is taken
// from what was opened, so a path that is replaced afterwards changes nothing.
//
// The error is an *Error. It wraps ErrNotNamespace when path is something else
// than a network namespace, fs.ErrNotExist when there is nothing at path, and
// ErrNoCookie on a kernel before Linux 5.14.
func Open(path string) (*NS, error) {
	n, err := openAt(path)
	if err != nil {
		return nil, err
	}
	if err := n.Do(n.identify); err != nil {
		_ = n.Close()
		return nil, &Error{Op: "identify", Path: path, Err: err}
	}
	return n, nil
}

// openFlags has O_NONBLOCK because a path may name a FIFO, whose open would wait
// for a writer for ever. A namespace file does not know the flag.
const openFlags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY

// openAt is Open without the identity.
func openAt(path string) (*NS, error) {
	fd, err := openRetry(path, openFlags)
	if err != nil {
		return nil, &Error{Op: "open", Path: path, Err: err}
	}
	if err := checkNetwork(fd); err != nil {
		_ = unix.Close(fd)
		return nil, &Error{Op: "open", Path: path, Err: err}
	}
	return &NS{path: path, fd: fd}, nil
}

// identify takes the identity from the calling thread, which is in the namespace.
func (n *NS) identify() (err error) {
	n.cookie, err = threadCookie()
	return err
}

// Self opens the namespace that the goroutines of this process run in. Its Path
// is for messages only.
//
// That is not /proc/self/ns/net: it shows the namespace of the process's first
// thread, which may be left in another one.
func Self() (*NS, error) {
	type opened struct {
		ns  *NS
		err error
	}
	result := make(chan opened, 1)
	// On a goroutine of its own, since the caller may be locked to a thread
	// that is elsewhere. A thread that takes goroutines at random is at home.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ns, err := openHere()
		result <- opened{ns, err}
	}()
	r := <-result
	return r.ns, r.err
}

// openHere opens the namespace of the calling thread, which need not enter it to
// know it.
func openHere() (*NS, error) {
	n, err := openAt("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	n.path = "/proc/" + strconv.Itoa(os.Getpid()) + "/ns/net"
	if err := n.identify(); err != nil {
		_ = n.Close()
		return nil, &Error{Op: "identify", Path: n.path, Err: err}
	}
	return n, nil
}

// Cookie returns the number by which the kernel knows the namespace. It is
// unique until the machine starts again.
func (n *NS) Cookie() uint64 { return n.cookie }

// Path returns the path that the namespace was opened by. It is for messages:
// by now it may name nothing, or another namespace.
func (n *NS) Path() string { return n.path }

// FD returns the descriptor, which stays the property of n and is valid until
// Close. It is -1 after that.
func (n *NS) FD() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.fd
}

// Close lets go of the namespace. Closing it again does nothing.
func (n *NS) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	fd := n.fd
	n.fd = -1
	if err := unix.Close(fd); err != nil {
		return &Error{Op: "close", Path: n.path, Err: err}
	}
	return nil
}

// Do runs fn on a thread that is in the namespace, and returns fn's error as it
// is. What fn opens, a netlink socket for instance, stays bound to the
// namespace and can be used anywhere afterwards. Goroutines that fn starts do
// not run in the namespace.
//
// The thread is brought back before anything else may run on it. Where that is
// not proven, it ends with its goroutine.
func (n *NS) Do(fn func() error) error {
	result := make(chan error, 1)
	go offFirstThread(func() {
		// Answered also when fn ends the goroutine (runtime.Goexit, as
		// testing's FailNow does), or the caller would wait for ever.
		err := error(&Error{Op: "run in", Path: n.path, Err: errGoexit})
		defer func() { result <- err }()
		err = n.do(fn)
	})
	return <-result
}

// offFirstThread runs fn with its goroutine locked to a thread that can end. The
// process's first thread cannot: the Go runtime parks it for ever instead, and
// if it is parked in another namespace, /proc/PID/ns/net shows that one for the
// whole process.
func offFirstThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		fn()
		return
	}
	// While this goroutine holds the first thread, another cannot get it.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		fn()
	}()
	<-done
	runtime.UnlockOSThread()
}

// do is the body of Do, on a locked goroutine of its own. Every return that does
// not unlock makes the runtime end the thread.
func (n *NS) do(fn func() error) error {
	home, err := openRetry("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		runtime.UnlockOSThread() // nothing has been changed yet
		return &Error{Op: "remember own namespace before entering", Path: n.path, Err: err}
	}
	defer unix.Close(home)

	if err := n.enter(); err != nil {
		runtime.UnlockOSThread() // setns changes all or nothing
		return &Error{Op: "enter", Path: n.path, Err: err}
	}
	return andBack(home, fn)
}

// andBack runs fn and brings the thread back to the namespace that home is open
// on. The thread stays locked if that fails, and ends with its goroutine.
func andBack(home int, fn func() error) error {
	err := fn()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

func (n *NS) enter() error {
	// Held over the call, so that the number cannot come to mean another file.
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return fs.ErrClosed
	}
	return unix.Setns(n.fd, unix.CLONE_NEWNET)
}

// threadCookie returns the cookie of the namespace that the calling thread is
// in. Any socket answers for the namespace it was made in (net/core/sock.c,
// sk_getsockopt); a unix socket is the cheapest.
func threadCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	return socketCookie(fd)
}

// socketCookie returns the cookie of the namespace that a socket was made in.
func socketCookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return 0, fmt.Errorf("%w, this is %s", ErrNoCookie, release())
	case err != nil:
		return 0, fmt.Errorf("read SO_NETNS_COOKIE: %w", err)
	}
	return cookie, nil
}

// release is the version of the kernel, for messages.
func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "one of unknown version"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// checkNetwork tells whether fd is a network namespace. The file system is
// asked first, since an ioctl number means something else to other files.
func checkNetwork(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if int64(st.Type) != unix.NSFS_MAGIC { //nolint:unconvert // its type differs between architectures
		return ErrNotNamespace
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return err
	}
	if kind != unix.CLONE_NEWNET {
		return errOtherKind
	}
	return nil
}

// openRetry is open(2), tried again after a signal.
func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
