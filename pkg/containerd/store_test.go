// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// fakeServer speaks the store's protocol over a real socket and answers what a
// test wants; the real server is met in the suite on containerd.
type fakeServer struct {
	api.UnimplementedStoreServer
	sandboxes []*types.Sandbox
	pauses    []*containers.Container
	filters   []string
	stray     string // id of a lease without a sandbox
	lists     int
	leases    int
	gets      atomic.Int32

	tooLarge bool                        // all records are more than a message
	onGet    func(context.Context) error // why there is no answer for one
}

func (f *fakeServer) List(_ context.Context, request *api.StoreListRequest) (*api.StoreListResponse, error) {
	f.lists++
	f.filters = request.GetFilters()
	if f.tooLarge {
		return nil, status.Error(codes.ResourceExhausted, "trying to send message larger than max")
	}
	return &api.StoreListResponse{List: f.sandboxes}, nil
}

func (f *fakeServer) Get(ctx context.Context, request *api.StoreGetRequest) (*api.StoreGetResponse, error) {
	f.gets.Add(1)
	if f.onGet != nil {
		if err := f.onGet(ctx); err != nil {
			return nil, err
		}
	}
	for _, sandbox := range f.sandboxes {
		if sandbox.GetSandboxID() == request.GetSandboxID() {
			return &api.StoreGetResponse{Sandbox: sandbox}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "sandbox not found")
}

// inNamespace refuses what names no namespace, as containerd does.
func inNamespace(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if incoming, _ := metadata.FromIncomingContext(ctx); strings.Join(incoming.Get(namespaceHeader), ";") != "k8s.io" {
		return nil, status.Error(codes.FailedPrecondition, "namespace is required")
	}
	return handler(ctx, request)
}

func serve(t *testing.T, server *fakeServer) *Store {
	t.Helper()
	return connected(t, func(s *grpc.Server) {
		api.RegisterStoreServer(s, server)
		leases.RegisterLeasesServer(s, &fakeLeases{server: server})
		containers.RegisterContainersServer(s, &fakeContainers{server: server})
	}, grpc.UnaryInterceptor(inNamespace))
}

// connected is a store that has a server with some services at its socket.
func connected(t *testing.T, register func(*grpc.Server), options ...grpc.ServerOption) *Store {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	register(s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(listener)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	return open(t, socket)
}

// fakeLeases lists the leases that belong to the fake's sandboxes, and one that
// belongs to something else.
type fakeLeases struct {
	leases.UnimplementedLeasesServer
	server *fakeServer
}

func (f *fakeLeases) List(context.Context, *leases.ListRequest) (*leases.ListResponse, error) {
	f.server.leases++
	response := &leases.ListResponse{Leases: []*leases.Lease{{ID: "pull-of-an-image"}}}
	if f.server.stray != "" {
		response.Leases = append(response.Leases, &leases.Lease{ID: f.server.stray})
	}
	for _, sandbox := range f.server.sandboxes {
		response.Leases = append(response.Leases, &leases.Lease{ID: sandbox.GetSandboxID()})
	}
	return response, nil
}

// fakeContainers answers for the fake's pause containers.
type fakeContainers struct {
	containers.UnimplementedContainersServer
	server *fakeServer
}

func (f *fakeContainers) Get(_ context.Context, request *containers.GetContainerRequest) (*containers.GetContainerResponse, error) {
	for _, container := range f.server.pauses {
		if container.GetID() == request.GetID() {
			return &containers.GetContainerResponse{Container: container}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "container not found")
}

// containerd 1.7 keeps nothing in the sandbox store.
func TestGetFallsBackToThePauseContainer(t *testing.T) {
	pause := func(id, key, meta string) *containers.Container {
		return &containers.Container{
			ID: id, Runtime: &containers.Container_Runtime{Name: "io.containerd.runc.v2"},
			Extensions: map[string]*anypb.Any{key: {Value: []byte(meta)}},
		}
	}
	store := serve(t, &fakeServer{
		sandboxes: []*types.Sandbox{sandboxWith(readyRecord)},
		pauses: []*containers.Container{
			pause("4f3a", containerExtension, `{`), // what the store says goes before
			pause("5b5b", containerExtension, readyRecord),
			pause("6c6c", containerExtension, `{`),
			pause("7d7d", "io.cri-containerd.container.metadata", `{"Version":"v1"}`),
		},
	})
	if rec, err := store.Get(t.Context(), "4f3a"); err != nil || !rec.Stored || rec.Runtime != "io.containerd.runsc.v1" {
		t.Errorf("a record in the store: %+v, %v", rec, err)
	}
	rec, err := store.Get(t.Context(), "5b5b")
	if err != nil || rec.Stored || rec.ID != "5b5b" || rec.Runtime != "io.containerd.runc.v2" || rec.NetNSPath != "/var/run/netns/cni-1" || !rec.NetworkReady {
		t.Errorf("a record of the container only: %+v, %v", rec, err)
	}
	if _, err := store.Get(t.Context(), "6c6c"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "6c6c") {
		t.Errorf("a broken record: %v, want an error that names it", err)
	}
	if _, err := store.Get(t.Context(), "7d7d"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a container that is no sandbox: %v, want ErrNotFound", err)
	}
}

func TestListGoesOnWhenAllRecordsAreMoreThanAMessage(t *testing.T) {
	server := &fakeServer{}
	// A tenant's annotations: 256 KiB each are allowed, and JSON grows them.
	padding := strings.Repeat(`\u003c`, 128<<10)
	for i := range 30 {
		id := fmt.Sprintf("%064x", i)
		sandbox := sandboxWith(`{"Version":"v1","Metadata":{"ID":"` + id + `","Config":{"annotations":{"x":"` + padding + `"}},"CNIResult":{}}}`)
		sandbox.SandboxID = id
		server.sandboxes = append(server.sandboxes, sandbox)
	}
	server.stray = fmt.Sprintf("%064x", 99)
	store := serve(t, server)
	records, err := store.List(t.Context(), []string{fmt.Sprintf("%064x", 0)})
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != len(server.sandboxes)-1 {
		t.Errorf("%d records, want %d", len(records), len(server.sandboxes)-1)
	}
	for _, rec := range records {
		if rec.ID == fmt.Sprintf("%064x", 0) || !rec.NetworkReady {
			t.Errorf("record %s, network ready %t", rec.ID, rec.NetworkReady)
		}
	}
}

func open(t *testing.T, socket string) *Store {
	t.Helper()
	store, err := NewStore(socket, "k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

const readyRecord = `{"Version":"v1","Metadata":{"ID":"4f3a","NetNSPath":"/var/run/netns/cni-1","CNIResult":{}}}`

func TestListAsksForTheUnknownOnly(t *testing.T) {
	server := &fakeServer{sandboxes: []*types.Sandbox{sandboxWith(readyRecord)}}
	store := serve(t, server)
	records, err := store.List(t.Context(), []string{"aa", "bb"})
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || !records[0].NetworkReady {
		t.Errorf("records %+v", records)
	}
	if got := strings.Join(server.filters, ";"); got != "id!=aa,id!=bb" {
		t.Errorf("filters %q", got)
	}
	if _, err := store.List(t.Context(), nil); err != nil || len(server.filters) != 0 {
		t.Errorf("filters %q when none is known, %v", server.filters, err)
	}
}

// A list of records costs containerd ten times what a list of leases costs.
func TestAFewNewSandboxesAreFoundByTheirLeases(t *testing.T) {
	server := &fakeServer{}
	var known []string
	for i := range 100 {
		sandbox := sandboxWith(readyRecord)
		sandbox.SandboxID = fmt.Sprintf("%064x", i)
		server.sandboxes = append(server.sandboxes, sandbox)
		if i >= 2 {
			known = append(known, sandbox.SandboxID)
		}
	}
	store := serve(t, server)
	records, err := store.List(t.Context(), known)
	if err != nil || len(records) != 2 || !records[0].NetworkReady || server.lists != 0 || server.gets.Load() != 2 {
		t.Errorf("%d lists and %d questions for one sandbox gave %+v, %v", server.lists, server.gets.Load(), records, err)
	}
	// Without an unknown one the store may be one that has no leases (containerd 2.0).
	known = append(known, server.sandboxes[0].SandboxID, server.sandboxes[1].SandboxID)
	if _, err := store.List(t.Context(), known); err != nil || server.lists != 1 || server.gets.Load() != 2 {
		t.Errorf("%d lists and %d questions for one sandbox, %v", server.lists, server.gets.Load(), err)
	}
	// And many at once are listed.
	if records, err := store.List(t.Context(), known[:50]); err != nil || len(records) != 100 || server.lists != 2 || server.gets.Load() != 2 {
		t.Errorf("%d lists and %d questions for one sandbox gave %d, %v", server.lists, server.gets.Load(), len(records), err)
	}
}

// Who waits for a record asks often, and each time for one record alone.
func TestWhileOneIsWaitedForLeasesAreNotListedEachTime(t *testing.T) {
	server := &fakeServer{}
	var known []string
	for i := range 50 {
		sandbox := sandboxWith(readyRecord)
		sandbox.SandboxID = fmt.Sprintf("%064x", i)
		server.sandboxes = append(server.sandboxes, sandbox)
		if i > 0 {
			known = append(known, sandbox.SandboxID)
		}
	}
	store := serve(t, server)
	ask := func(known []string, want int) {
		t.Helper()
		records, err := store.List(t.Context(), known)
		if err != nil || len(records) != want {
			t.Fatalf("%d records, want %d; %v", len(records), want, err)
		}
	}
	age := func(at time.Time) {
		store.recent.mu.Lock()
		defer store.recent.mu.Unlock()
		store.recent.at = at
	}
	expect := func(leases, gets int32) {
		t.Helper()
		if int32(server.leases) != leases || server.gets.Load() != gets || server.lists != 0 {
			t.Errorf("%d lists of leases, want %d; %d questions for one, want %d; %d lists of records", server.leases, leases, server.gets.Load(), gets, server.lists)
		}
	}
	ask(known, 1)
	for range 10 {
		age(time.Now().Add(time.Hour)) // no moment passes
		ask(known, 1)
	}
	expect(1, 11)
	ask(append(slices.Clone(known[1:]), server.sandboxes[0].SandboxID), 1) // another one, now that the first is known
	expect(2, 12)
	age(time.Now().Add(time.Hour))
	ask(known[1:], 2) // who knows fewer than before
	expect(3, 14)
	age(time.Now().Add(-2 * leaseAge)) // the moment has passed
	ask(known[1:], 2)
	expect(4, 16)
	ask(known[5:], 6) // more than a node with few sandboxes is asked for one by one
	age(time.Now().Add(time.Hour))
	ask(known[5:], 6)
	expect(5, 28)
}

// The lease of a start that failed may stay; it must not hide what else there is.
func TestALeaseWithoutASandboxHidesNothing(t *testing.T) {
	server := &fakeServer{sandboxes: []*types.Sandbox{sandboxWith(readyRecord)}, stray: fmt.Sprintf("%064x", 1)}
	store := serve(t, server)
	records, err := store.List(t.Context(), []string{"aa"})
	if err != nil || len(records) != 1 || records[0].ID != "4f3a" || server.lists != 1 {
		t.Errorf("%d lists gave %+v, %v", server.lists, records, err)
	}
}

func TestRecordThatCannotBeDecodedCostsNoOther(t *testing.T) {
	broken := sandboxWith("{")
	broken.SandboxID = "beef"
	store := serve(t, &fakeServer{sandboxes: []*types.Sandbox{broken, sandboxWith(readyRecord)}})
	records, err := store.List(t.Context(), nil)
	if len(records) != 1 || records[0].ID != "4f3a" {
		t.Errorf("records %+v", records)
	}
	if err == nil || !strings.Contains(err.Error(), "beef") {
		t.Errorf("error %v does not name the broken record", err)
	}
}

func TestGetTellsAbsentFromUnreachable(t *testing.T) {
	store := serve(t, &fakeServer{sandboxes: []*types.Sandbox{sandboxWith(readyRecord)}})
	if rec, err := store.Get(t.Context(), "4f3a"); err != nil || !rec.NetworkReady {
		t.Errorf("record %+v, %v", rec, err)
	}
	if _, err := store.Get(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v does not wrap ErrNotFound", err)
	}

	socket := filepath.Join(t.TempDir(), "absent")
	absent := open(t, socket)
	_, err := absent.Get(t.Context(), "4f3a")
	if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), socket) {
		t.Errorf("error %v, want one that names %s", err, socket)
	}
	if records, err := absent.List(t.Context(), nil); records != nil || err == nil || !strings.Contains(err.Error(), socket) {
		t.Errorf("%v, %v, want an error that names %s, and not even no records", records, err, socket)
	}
}
