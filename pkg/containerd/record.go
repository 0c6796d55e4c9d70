// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"
	"fmt"
	"time"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// metadataExtension is the key of the CRI plugin's own record inside a sandbox
	// record (containerd internal/cri/server/podsandbox/helpers.go, MetadataKey).
	metadataExtension = "metadata"
	// containerExtension is the key of the same record inside that of the pause
	// container (containerd 1.7 pkg/cri/server/helpers.go, sandboxMetadataExtension).
	containerExtension = "io.cri-containerd.sandbox.metadata"
)

// metadataVersion is the only version of that record there has been
// (containerd internal/cri/store/sandbox/metadata.go).
const metadataVersion = "v1"

// Record is what the sandbox store says about one pod sandbox.
type Record struct {
	// ID is the sandbox's id.
	ID string
	// Name, Namespace and UID are the pod's, as the kubelet gave them.
	Name, Namespace, UID string
	// Annotations are the pod's annotations. They are the tenant's input.
	Annotations map[string]string
	// Handler is the runtime handler asked for; empty for the default runtime.
	Handler string
	// Runtime is the type of the runtime, such as io.containerd.runsc.v1; it
	// is known for the default runtime too.
	Runtime string
	// NetNSPath is the namespace's path; empty for a pod on the host's
	// network, and for a moment at the beginning of every record.
	NetNSPath string
	// HostNetwork tells that the pod asked for the host's network.
	HostNetwork bool
	// NetworkReady tells that CNI has finished: its result is in the record.
	NetworkReady bool
	// Created is when containerd began with the sandbox, before its namespace was made
	// (core/metadata/sandbox.go, Create); zero where that is not told.
	Created time.Time
	// Stored tells that the sandbox store has the record. Without it only the
	// pause container has: containerd 1.7's CRI server, unless told otherwise,
	// writes nothing else, and lists know nothing of the sandbox.
	Stored bool
}

// criRecord mirrors the fields read here of the CRI plugin's versioned record.
type criRecord struct {
	Version  string
	Metadata struct {
		NetNSPath      string
		RuntimeHandler string
		CNIResult      json.RawMessage
		Config         struct {
			Metadata struct {
				Name      string `json:"name"`
				UID       string `json:"uid"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
			Annotations map[string]string `json:"annotations"`
			Linux       struct {
				SecurityContext struct {
					NamespaceOptions struct {
						Network int `json:"network"`
					} `json:"namespace_options"`
				} `json:"security_context"`
			} `json:"linux"`
		}
	}
}

// namespaceModeNode is NamespaceMode_NODE of the CRI (k8s.io/cri-api runtime/v1).
const namespaceModeNode = 2

// decode translates one record of the store. A record of another client, which
// has no CRI extension, comes back with its id and runtime only.
func decode(sandbox *types.Sandbox) (Record, error) {
	rec := Record{ID: sandbox.GetSandboxID(), Runtime: sandbox.GetRuntime().GetName(), Stored: true}
	if created := sandbox.GetCreatedAt(); created.IsValid() {
		rec.Created = created.AsTime()
	}
	extension, ok := sandbox.GetExtensions()[metadataExtension]
	if !ok {
		return rec, nil
	}
	return rec.complete(extension)
}

// decodeContainer translates the record of a sandbox's pause container; another
// container is no sandbox.
func decodeContainer(container *containers.Container) (Record, error) {
	rec := Record{ID: container.GetID(), Runtime: container.GetRuntime().GetName()}
	extension, ok := container.GetExtensions()[containerExtension]
	if !ok {
		return Record{}, fmt.Errorf("read container %.64q: %w", rec.ID, ErrNotFound)
	}
	return rec.complete(extension)
}

// complete adds what the CRI plugin's own record says.
func (rec Record) complete(extension *anypb.Any) (Record, error) {
	var meta criRecord
	if err := json.Unmarshal(extension.GetValue(), &meta); err != nil {
		return rec, fmt.Errorf("decode metadata of sandbox %.64q: %w", rec.ID, err)
	}
	if meta.Version != metadataVersion {
		return rec, fmt.Errorf("decode metadata of sandbox %.64q: version %.16q, want %q", rec.ID, meta.Version, metadataVersion)
	}
	config := meta.Metadata.Config
	rec.Name, rec.Namespace, rec.UID = config.Metadata.Name, config.Metadata.Namespace, config.Metadata.UID
	rec.Annotations = config.Annotations
	rec.Handler = meta.Metadata.RuntimeHandler
	rec.NetNSPath = meta.Metadata.NetNSPath
	rec.HostNetwork = config.Linux.SecurityContext.NamespaceOptions.Network == namespaceModeNode
	result := string(meta.Metadata.CNIResult)
	rec.NetworkReady = result != "" && result != "null"
	return rec, nil
}
