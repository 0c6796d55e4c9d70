// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/nri/pkg/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// store is containerd's sandbox store, into which sandboxes are written as containerd's CRI does it.
type store struct {
	connection *grpc.ClientConn
	client     sandbox.StoreClient
}

func openStore() (*store, error) {
	connection, err := grpc.NewClient("unix://"+node.ContainerdSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	return &store{connection: connection, client: sandbox.NewStoreClient(connection)}, nil
}

func (s *store) close() error { return s.connection.Close() }

// begin writes what the CRI writes before CNI works.
func (s *store) begin(ctx context.Context, pod *api.PodSandbox, runtime string) error {
	extension, err := criMetadata(pod, nil)
	if err != nil {
		return err
	}
	_, err = s.client.Create(outgoing(ctx), &sandbox.StoreCreateRequest{Sandbox: &types.Sandbox{
		SandboxID: pod.Id, Runtime: &types.Sandbox_Runtime{Name: runtime}, Sandboxer: "podsandbox",
		Extensions: map[string]*anypb.Any{"metadata": extension},
	}})
	if err != nil {
		return fmt.Errorf("write sandbox %s into containerd's store: %w", pod.Id, err)
	}
	return nil
}

// finish writes what the CRI writes when CNI has finished.
func (s *store) finish(ctx context.Context, pod *api.PodSandbox, runtime string) error {
	extension, err := criMetadata(pod, networkMade(pod))
	if err != nil {
		return err
	}
	_, err = s.client.Update(outgoing(ctx), &sandbox.StoreUpdateRequest{
		Sandbox: &types.Sandbox{SandboxID: pod.Id, Runtime: &types.Sandbox_Runtime{Name: runtime}, Extensions: map[string]*anypb.Any{"metadata": extension}},
		Fields:  []string{"extensions"},
	})
	if err != nil {
		return fmt.Errorf("write the CNI result of sandbox %s into containerd's store: %w", pod.Id, err)
	}
	return nil
}

// remove removes it.
func (s *store) remove(ctx context.Context, id string) error {
	if _, err := s.client.Delete(outgoing(ctx), &sandbox.StoreDeleteRequest{SandboxID: id}); err != nil {
		return fmt.Errorf("remove sandbox %s from containerd's store: %w", id, err)
	}
	return nil
}

func outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io")
}

// networkMade is what CNI adds to criMetadata.
func networkMade(pod *api.PodSandbox) map[string]any {
	return map[string]any{"IP": pod.Ips[0], "CNIResult": map[string]any{"Interfaces": map[string]any{"eth0": map[string]any{"Sandbox": networkOf(pod)}}}}
}

// criMetadata is the CRI's own part of a record (containerd internal/cri/store/sandbox/metadata.go), with what there is to add.
func criMetadata(pod *api.PodSandbox, more map[string]any) (*anypb.Any, error) {
	record := map[string]any{
		"ID": pod.Id, "Name": pod.Name + "_" + pod.Namespace, "NetNSPath": networkOf(pod), "RuntimeHandler": pod.RuntimeHandler,
		"Config": map[string]any{
			"metadata":    map[string]any{"name": pod.Name, "namespace": pod.Namespace, "uid": pod.Uid},
			"annotations": pod.Annotations, "labels": pod.Labels,
		},
	}
	maps.Copy(record, more)
	data, err := json.Marshal(map[string]any{"Version": "v1", "Metadata": record})
	if err != nil {
		return nil, fmt.Errorf("encode a record: %w", err)
	}
	return &anypb.Any{TypeUrl: "github.com/containerd/cri/pkg/store/sandbox/Metadata", Value: data}, nil
}

// networkOf is the path of a pod's network namespace.
func networkOf(pod *api.PodSandbox) string {
	for _, ns := range pod.GetLinux().GetNamespaces() {
		if ns.Type == "network" {
			return ns.Path
		}
	}
	return ""
}
