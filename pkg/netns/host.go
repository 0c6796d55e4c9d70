// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"slices"
)

// Host knows the namespaces that belong to the machine and not to a sandbox:
// the one of this process and, where it may be read, the one of process 1. It
// does not change and may be used from several goroutines at once.
type Host struct {
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
	defer self.Close()
	h := &Host{cookies: []uint64{self.Cookie()}}
	if init, err := Open("/proc/1/ns/net"); err == nil {
		defer init.Close()
		if !slices.Contains(h.cookies, init.Cookie()) {
			h.cookies = append(h.cookies, init.Cookie())
		}
	}
	return h, nil
}

// Owns tells whether ns is one of the host's, by whatever path it was reached.
func (h *Host) Owns(ns *NS) bool { return slices.Contains(h.cookies, ns.Cookie()) }

// Open opens the namespace at path unless it is the host's: then the error
// wraps ErrHost. For the rest see the function Open.
func (h *Host) Open(path string) (*NS, error) {
	ns, err := Open(path)
	if err != nil {
		return nil, err
	}
	return h.refuse(ns)
}

// OpenMounted is Open for a file that may still wait for its bind mount; see
// the function OpenMounted.
func (h *Host) OpenMounted(ctx context.Context, path string) (*NS, error) {
	ns, err := OpenMounted(ctx, path)
	if err != nil {
		return nil, err
	}
	return h.refuse(ns)
}

func (h *Host) refuse(ns *NS) (*NS, error) {
	if !h.Owns(ns) {
		return ns, nil
	}
	_ = ns.Close()
	return nil, &Error{Op: "use", Path: ns.Path(), Err: ErrHost}
}
