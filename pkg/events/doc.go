// SPDX-License-Identifier: Apache-2.0

// Package events tells of a pod's trouble where its owner looks for it: as
// Kubernetes Events of type Warning on the Pod. Of what goes well there is none.
//
// The Events are those of the core group, as client-go's tools/record makes them.
// The daemon needs, in every namespace in which selected pods may run, and so
// by a ClusterRole:
//
//	apiGroups: [""]
//	resources: ["events"]
//	verbs: ["create", "patch"]
//
// and the token of its service account (automountServiceAccountToken). It reads
// nothing from the API server: namespace, name and UID of the pod stand in the
// sandbox's record, as the container runtime gave them.
package events
