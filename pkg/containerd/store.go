// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ErrNotFound says that the store has no such sandbox (any more).
var ErrNotFound = errors.New("no such sandbox in containerd's store")

const (
	// maxMessage bounds one answer of the store, as containerd itself does. From
	// containerd 2.3 on every record carries the sandbox's whole OCI spec: one that
	// was measured has 6545 bytes, so this is room for some 2,500 in one list.
	maxMessage = 16 << 20

	// atOnce is how many records are got one by one in any case, and not by a list:
	// each takes a tenth of a millisecond.
	atOnce = 4

	// getters is how many of them are asked for at the same time.
	getters = 8

	// namespaceHeader selects containerd's own kind of namespace
	// (containerd pkg/namespaces/grpc.go).
	namespaceHeader = "containerd-namespace"
)

// isSandboxID tells whether an id is of the CRI plugin's making: 32 bytes in
// hexadecimal digits (containerd internal/cri/util/id.go).
func isSandboxID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// Store is a connection to the sandbox store. It connects when first used and
// again after a loss, so it outlives restarts of containerd. It is safe for
// concurrent use.
type Store struct {
	conn       *grpc.ClientConn
	client     api.StoreClient
	leases     leases.LeasesClient
	containers containers.ContainersClient
	socket     string
	namespace  string
	process    process // that answers at the socket
	recent     recent  // what the leases said
}

// NewStore prepares a connection to containerd's socket; the CRI plugin's
// sandboxes live in the namespace "k8s.io". Nothing is dialled yet: a socket
// that is absent shows with the first call. Options come on top of the connection's
// own, for who wants to count what goes over it.
func NewStore(socket, namespace string, options ...grpc.DialOption) (*Store, error) {
	s := &Store{socket: socket, namespace: namespace}
	options = append([]grpc.DialOption{
		grpc.WithContextDialer(s.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			// A pod can start as soon as containerd is back: ask often.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
	}, options...)
	conn, err := grpc.NewClient("unix:"+socket, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare connection to containerd at %s: %w", socket, err)
	}
	s.conn, s.client, s.leases, s.containers = conn, api.NewStoreClient(conn), leases.NewLeasesClient(conn), containers.NewContainersClient(conn)
	return s, nil
}

// Close ends the connection; calls under way fail.
func (s *Store) Close() error {
	return s.conn.Close()
}

// List returns the records of sandboxes that are not named in known: of those that
// have a lease, or, when there are none of these or many, of all. A record that
// cannot be decoded is left out and named in the error, beside the others.
//
// From containerd 2.1 on every sandbox has a lease of its id, and before its record
// (internal/cri/server/sandbox_run.go). To list leases costs containerd a tenth of
// what it takes to list records: it reads every record whole, whatever the filter, and
// compares each with every known id. Those that start when there are no leases for
// sandboxes are found all the same, since then no lease is of an unknown one. While
// an unknown one is there, leases are listed again after a moment only: who waits for
// the record of one asks many times, and for that one alone.
func (s *Store) List(ctx context.Context, known []string) ([]Record, error) {
	// Where leases cannot be listed none is unknown by them.
	unknown, all, _ := s.leased(ctx, known)
	if len(unknown) <= atOnce+all/4 {
		// One that has no record yet, or not any more, is no reason to list all.
		if records, err := s.each(ctx, unknown); len(records) > 0 {
			return records, err
		}
	}
	request := &api.StoreListRequest{}
	if len(known) > 0 {
		// The store knows no other filter than ids and labels; conditions of
		// one filter are joined by "and".
		request.Filters = []string{"id!=" + strings.Join(known, ",id!=")}
	}
	response, err := s.client.List(s.outgoing(ctx), request)
	if status.Code(err) == codes.ResourceExhausted {
		return s.listByLease(ctx, known)
	}
	if err != nil {
		return nil, s.explain("list sandboxes", err)
	}
	return decodeAll(response.GetList())
}

// decodeAll leaves out what cannot be decoded, and names it in the error.
func decodeAll(sandboxes []*types.Sandbox) ([]Record, error) {
	records := make([]Record, 0, len(sandboxes))
	var errs []error
	for _, sandbox := range sandboxes {
		rec, err := decode(sandbox)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records = append(records, rec)
	}
	return records, errors.Join(errs...)
}

// each gets the records of some sandboxes, a few at once: where containerd has little
// time an answer is mostly waiting. One that has none is left out, and one
// that cannot be had costs no other, unless nobody answers (any more): then the
// questions end, and without any record the result is nil.
func (s *Store) each(ctx context.Context, ids []string) ([]Record, error) {
	records, errs := make([]*Record, len(ids)), make([]error, len(ids))
	var silent atomic.Bool
	var asking sync.WaitGroup
	next := make(chan int)
	for range min(getters, len(ids)) {
		asking.Go(func() {
			for i := range next {
				if silent.Load() {
					continue
				}
				var gone bool
				if records[i], gone, errs[i] = s.one(ctx, ids[i]); gone {
					silent.Store(true)
				}
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	asking.Wait()
	found := make([]Record, 0, len(ids))
	for _, rec := range records {
		if rec != nil {
			found = append(found, *rec)
		}
	}
	if silent.Load() && len(found) == 0 {
		found = nil
	}
	return found, errors.Join(errs...)
}

// one gets a record, or nil where there is none; silent tells that nobody answers.
func (s *Store) one(ctx context.Context, id string) (rec *Record, silent bool, err error) {
	response, err := s.client.Get(s.outgoing(ctx), &api.StoreGetRequest{SandboxID: id})
	if code := status.Code(err); code == codes.NotFound {
		return nil, false, nil
	} else if err != nil {
		return nil, code == codes.Unavailable || ctx.Err() != nil, s.explain(fmt.Sprintf("get sandbox %.64q", id), err)
	}
	decoded, err := decode(response.GetSandbox())
	if err != nil {
		return nil, false, err
	}
	return &decoded, false, nil
}

// Get returns the record of one sandbox. Where the sandbox store has none it is
// the one that the CRI plugin keeps with the sandbox's pause container, which is
// all that containerd 1.7 has: see [Record.Stored]. The error wraps [ErrNotFound]
// when there is neither.
func (s *Store) Get(ctx context.Context, id string) (Record, error) {
	response, err := s.client.Get(s.outgoing(ctx), &api.StoreGetRequest{SandboxID: id})
	if code := status.Code(err); code == codes.NotFound || code == codes.Unimplemented {
		return s.getContainer(ctx, id)
	}
	if err != nil {
		return Record{}, s.explain(fmt.Sprintf("get sandbox %.64q", id), err)
	}
	return decode(response.GetSandbox())
}

// getContainer returns what the pause container of a sandbox says.
func (s *Store) getContainer(ctx context.Context, id string) (Record, error) {
	response, err := s.containers.Get(s.outgoing(ctx), &containers.GetContainerRequest{ID: id})
	if err != nil {
		return Record{}, s.explain(fmt.Sprintf("get pause container of sandbox %.64q", id), err)
	}
	return decodeContainer(response.GetContainer())
}

func (s *Store) outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, namespaceHeader, s.namespace)
}

func (s *Store) explain(what string, err error) error {
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return fmt.Errorf("%s from containerd at %s: %w", what, s.socket, err)
}
