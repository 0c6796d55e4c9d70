// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// someSandboxes are ready, and have ids as the CRI plugin makes them.
func someSandboxes(n int) (sandboxes []*types.Sandbox) {
	for i := range n {
		sandbox := sandboxWith(readyRecord)
		sandbox.SandboxID = fmt.Sprintf("%064x", i)
		sandboxes = append(sandboxes, sandbox)
	}
	return sandboxes
}

func TestAContainerdWithoutAStoreHasItsPauseContainers(t *testing.T) {
	pauses := &fakeServer{pauses: []*containers.Container{{ID: "5b5b", Extensions: map[string]*anypb.Any{containerExtension: {Value: []byte(readyRecord)}}}}}
	store := connected(t, func(s *grpc.Server) { containers.RegisterContainersServer(s, &fakeContainers{server: pauses}) })
	if rec, err := store.Get(t.Context(), "5b5b"); err != nil || !rec.NetworkReady {
		t.Errorf("%+v, %v", rec, err)
	}
}

func TestASandboxWhoseContainerCannotBeAskedForIsNotAbsent(t *testing.T) {
	store := connected(t, func(s *grpc.Server) { api.RegisterStoreServer(s, &fakeServer{}) })
	if rec, err := store.Get(t.Context(), "5b5b"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "5b5b") {
		t.Errorf("%+v, %v, want an error that names it", rec, err)
	}
}

func TestAListThatIsTooLargeFailsWhereThereAreNoLeases(t *testing.T) {
	store := connected(t, func(s *grpc.Server) { api.RegisterStoreServer(s, &fakeServer{tooLarge: true}) })
	if records, err := store.List(t.Context(), nil); records != nil || err == nil || !strings.Contains(err.Error(), "list leases") {
		t.Errorf("%v, %v, want an error about the leases", records, err)
	}
}

func TestARecordThatCannotBeDecodedIsNamedWhereItIsAskedForAlone(t *testing.T) {
	server := &fakeServer{sandboxes: someSandboxes(2)}
	server.sandboxes[1].Extensions[metadataExtension].Value = []byte("{")
	records, err := serve(t, server).List(t.Context(), nil)
	if len(records) != 1 || records[0].ID != server.sandboxes[0].GetSandboxID() || server.lists != 0 {
		t.Errorf("%d lists gave %+v", server.lists, records)
	}
	if err == nil || !strings.Contains(err.Error(), server.sandboxes[1].GetSandboxID()) {
		t.Errorf("error %v does not name the broken record", err)
	}
}

// No records are an answer, too; nil is none.
func TestNoRecordsAreTheAnswerOfAStoreThatLives(t *testing.T) {
	records, err := serve(t, &fakeServer{tooLarge: true, stray: fmt.Sprintf("%064x", 1)}).List(t.Context(), nil)
	if records == nil || len(records) != 0 || err != nil {
		t.Errorf("%v, %v", records, err)
	}
}

func TestOnceNobodyAnswersNothingIsAskedAnyMore(t *testing.T) {
	for name, answer := range map[string]func(cancel func()) error{
		"the store goes away": func(func()) error { return status.Error(codes.Unavailable, "going") },
		"the caller goes away": func(cancel func()) error {
			cancel()
			return status.Error(codes.Canceled, "as you wish")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			server := &fakeServer{sandboxes: someSandboxes(100), tooLarge: true, onGet: func(context.Context) error { return answer(cancel) }}
			records, err := serve(t, server).List(ctx, nil)
			if records != nil || err == nil {
				t.Errorf("%v, %v, want an error and not even no records", records, err)
			}
			if asked := server.gets.Load(); asked > getters {
				t.Errorf("%d questions, %d at a time: some came after it was clear that nobody answers", asked, getters)
			}
		})
	}
}
