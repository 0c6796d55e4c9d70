// SPDX-License-Identifier: Apache-2.0

// Package sandbox is the engine: the life of each selected pod sandbox from the
// appearance of its network namespace to its end. It finds the sandbox that
// owns a new namespace, waits for CNI's result, has the gateways pinned by
// package neighbor, proves that the pin was in time, repairs it for as long as
// the sandbox is there, and fills its record (package record).
//
// It reads in this order. engine.go and takeover.go are the doors, registry.go and
// roster.go know the sandboxes, discover.go meets new ones. The life_ files, from
// life.go on, are a sandbox's start. When one that has started is looked at says
// package guard, below this one, which knows it by subject.go; the compare_ files,
// from compare.go on, are that look. The others do one thing beside: enforce.go,
// hoststate.go, observe.go.
//
// The engine knows no NRI and no logger: handlers call [Engine], and what is
// worth telling goes to a [record.Reporter].
package sandbox
