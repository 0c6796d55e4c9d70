// SPDX-License-Identifier: Apache-2.0

// Package events tells of a pod's trouble where its owner looks for it: as
// Kubernetes Events of type Warning on the Pod. Of what goes well there is none.
//
// The Events are those of the core group. The daemon needs, in every namespace in
// which selected pods may run, and so by a ClusterRole:
//
//	apiGroups: [""]
//	resources: ["events"]
//	verbs: ["create", "patch"]
//
// and the token of its service account (automountServiceAccountToken). It reads
// nothing from the API server: namespace, name and UID of the pod stand in the
// sandbox's record, as the container runtime gave them.
//
// Nothing here is in the way of the engine's work, and all of it is bounded: what
// waits, what is remembered, the pace of writes, those about one pod, and a
// message's length. An API server that cannot be reached costs Events, no pins.
//
// Two requests are all that is asked of the API server, so they are made with
// net/http. client-go's recorder would add 10.4 MiB to a binary of 18.9 MiB (its
// REST client alone 4.0 MiB, the types of the core group 6.4 MiB), to an image that
// is to stay under 25 MiB.
package events
