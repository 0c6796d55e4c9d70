// SPDX-License-Identifier: Apache-2.0

// Package guard says when each of many sandboxes is looked at, and when its gateways
// are asked for: after events of the host and of the sandboxes' namespaces, all heard
// by one socket in this process's own, after lost events, and from time to time. What a
// look is, and what comes of it, is the business of who has a [Guard] made: the engine,
// package sandbox.
//
// It knows no record, no netlink socket but that one, and nothing in a sandbox's
// namespace. It reads in this order: guard.go is what the engine calls, ward.go what is
// in care; listen.go, events.go and basis.go go from an event to the wards that it
// concerns, schedule.go and pace.go from a ward to a worker. look.go and readings.go are
// about many at once, rounds.go about the slow comparison, ask.go about asking; state.go
// is for tests.
package guard
