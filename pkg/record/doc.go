// SPDX-License-Identifier: Apache-2.0

// Package record is what is known of a pod sandbox, and where that is kept: who it
// is, how far it has come, what is pinned and what is not, whether that was in
// time, what happened to it since; what is told of it ([Event]); its file under the
// state directory, and the live file that its containers see.
//
// It has no goroutine, decides nothing and writes to no namespace. The engine of
// package sandbox fills a record; whoever only reads one needs no engine. The one
// thing that a record asks the kernel is whether its namespace is still there.
package record
