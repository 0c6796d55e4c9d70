// SPDX-License-Identifier: Apache-2.0

package record

import "strings"

// Identity is what is known of a sandbox from outside its namespace.
type Identity struct {
	// ID is the sandbox's id.
	ID string
	// Name, Namespace and UID are the pod's.
	Name, Namespace, UID string
	// Handler is the runtime handler; empty for the runtime's default.
	Handler string
	// Runtime is the runtime's type, such as io.containerd.runsc.v1; empty
	// when only NRI told of the sandbox.
	Runtime string
	// Annotations are the pod's: hostile input.
	Annotations map[string]string
	// NetNSPath is empty for a pod on the host's network.
	NetNSPath string
}

// New is the record of a sandbox that begins.
func New(id Identity) *Record {
	return &Record{
		ID: id.ID, Name: id.Name, Namespace: id.Namespace, UID: id.UID, Handler: id.Handler, Runtime: id.Runtime,
		Phase: Starting, Timing: Timing{Verdict: Pending},
	}
}

// Identity is what a record says of the sandbox it was written for. The pod's
// annotations are not kept: the decision they led to is.
func (r Record) Identity() Identity {
	return Identity{
		ID: r.ID, Name: r.Name, Namespace: r.Namespace, UID: r.UID,
		Handler: r.Handler, Runtime: r.Runtime, NetNSPath: r.NetNS.Path,
	}
}

// HandlerName is the name that selection's globs are matched with: the handler's, or, for the
// default runtime, which has none, the name inside the runtime's type.
func (id Identity) HandlerName() string {
	if id.Handler != "" {
		return id.Handler
	}
	name := strings.TrimPrefix(id.Runtime, "io.containerd.")
	name, _, _ = strings.Cut(name, ".")
	return name
}

// HandlerName is the name that the selection's globs were matched with.
func (r Record) HandlerName() string { return r.Identity().HandlerName() }

// Stack says who holds the pod's network stack while it runs.
type Stack int

const (
	// stackUnknown: the runtime's type is not known; watch what it does.
	StackUnknown Stack = iota
	// stackKernel: the namespace's own; pins act there for the pod's life.
	StackKernel
	// stackTaken: gVisor copies the namespace when it starts and removes the
	// addresses it took (gvisor runsc/sandbox/network.go, removeAddress).
	StackTaken
	// stackGuest: Kata scans the namespace inside its shim's Create and gives
	// no sign of it (kata virtcontainers/network_linux.go).
	StackGuest
)

// Stack goes by the runtime's type. Where only NRI told of the sandbox, which
// knows no types, the handler's name has to do, and then only to be careful.
func (id Identity) Stack() Stack {
	switch {
	case strings.HasPrefix(id.Runtime, "io.containerd.runsc."):
		return StackTaken
	case strings.HasPrefix(id.Runtime, "io.containerd.kata"), id.Runtime == "" && strings.HasPrefix(id.Handler, "kata"):
		return StackGuest
	case strings.HasPrefix(id.Runtime, "io.containerd.runc."):
		return StackKernel
	}
	return StackUnknown
}
