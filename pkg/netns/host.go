// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Host knows the namespaces that belong to the machine and not to a sandbox:
// the one of this process and, where it may be read, the one of process 1. It
// may be used from several goroutines at once.
//
// It holds this process's own namespace open until Close, for visits to others to
// return to.
type Host struct {
	self    *NS
	cookies []uint64
}

// NewHost finds out what the host's namespaces are. Only the own one must be
// readable: in a container without the host's process ids, process 1 is one of
// the container, and reading its namespace may be denied.
func NewHost() (*Host, error) {
	self, err := Self()
	if err != nil {
		return nil, err
	}
	h := &Host{self: self, cookies: []uint64{self.Cookie()}}
	if init, err := Open("/proc/1/ns/net"); err == nil {
		defer init.Close()
		if !slices.Contains(h.cookies, init.Cookie()) {
			h.cookies = append(h.cookies, init.Cookie())
		}
	}
	return h, nil
}

// Self is the namespace of this process, which is h's to close.
func (h *Host) Self() *NS { return h.self }

// Close lets go of the own namespace. Open and OpenMounted go on to work, Socket
// does not. Closing again does nothing.
func (h *Host) Close() error { return h.self.Close() }

// owns tells whether ns is one of the host's, by whatever path it was reached.
func (h *Host) owns(ns *NS) bool { return slices.Contains(h.cookies, ns.Cookie()) }

// Socket has make make a socket in the namespace at path, and returns it with the
// namespace's cookie, of which the socket itself tells. It is what Open and Do are
// together, in a third of the system calls, and keeps nothing open but the socket.
// make must not use h, whose Close may be waiting for it.
// The host's namespaces are refused with ErrHost; for other errors see the function
// Open.
func (h *Host) Socket(path string, make func() (fd int, err error)) (fd int, cookie uint64, err error) {
	ns, err := openRetry(path, openFlags)
	if err != nil {
		return -1, 0, &Error{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(ns)
	err = h.visit(ns, path, func() (err error) {
		if fd, err = make(); err != nil {
			return err
		}
		if cookie, err = socketCookie(fd); err != nil {
			err = &Error{Op: "identify", Path: path, Err: err}
		} else if slices.Contains(h.cookies, cookie) {
			err = &Error{Op: "use", Path: path, Err: ErrHost}
		}
		if err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return -1, 0, err
	}
	return fd, cookie, nil
}

// visit runs fn on a thread in the namespace that ns is open on, if it is one.
func (h *Host) visit(ns int, path string, fn func() error) error {
	// Held until the thread is back, so that the number does not come to mean
	// another file.
	h.self.mu.RLock()
	defer h.self.mu.RUnlock()
	if h.self.closed {
		return &Error{Op: "enter", Path: path, Err: fs.ErrClosed}
	}
	result := make(chan error, 1)
	go offFirstThread(func() {
		err := error(&Error{Op: "run in", Path: path, Err: errGoexit})
		defer func() { result <- err }()
		// Refuses everything but network namespaces (kernel/nsproxy.c).
		if cause := unix.Setns(ns, unix.CLONE_NEWNET); cause != nil {
			runtime.UnlockOSThread() // setns changes all or nothing
			err = &Error{Op: "enter", Path: path, Err: cause}
			return
		}
		err = andBack(h.self.fd, fn)
	})
	err := <-result
	if errors.Is(err, unix.EINVAL) {
		if kind := checkNetwork(ns); kind != nil {
			return &Error{Op: "open", Path: path, Err: kind}
		}
	}
	return err
}

// Open opens the namespace at path unless it is the host's: then the error
// wraps ErrHost. For the rest see the function Open.
func (h *Host) Open(path string) (*NS, error) {
	ns, err := Open(path)
	if err != nil {
		return nil, err
	}
	return h.refuse(ns)
}

// OpenMounted opens the namespace at path as Open does, but waits while the
// file there is the empty one that runtimes make before they mount the
// namespace on it. The kernel announces the file (inotify) and not the mount.
//
// It ends without a namespace when ctx ends, when the file is gone
// (fs.ErrNotExist), or when it is clearly something else (ErrNotNamespace).
func (h *Host) OpenMounted(ctx context.Context, path string) (*NS, error) {
	ns, err := openMounted(ctx, path)
	if err != nil {
		return nil, err
	}
	return h.refuse(ns)
}

func (h *Host) refuse(ns *NS) (*NS, error) {
	if !h.owns(ns) {
		return ns, nil
	}
	_ = ns.Close()
	return nil, &Error{Op: "use", Path: ns.Path(), Err: ErrHost}
}
