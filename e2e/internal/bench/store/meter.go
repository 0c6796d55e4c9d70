// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	events "github.com/containerd/containerd/api/services/events/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/pkg/containerd"
)

const (
	// criNamespace is where the CRI plugin keeps its sandboxes.
	criNamespace = "k8s.io"
	// maxMessage is containerd's own limit, and pkg/containerd's.
	maxMessage = 16 << 20
)

// answerLimit bounds what has to come soon.
const answerLimit = time.Minute

// client asks containerd's services and counts what goes over the socket; product is neighpin's own code for that.
type client struct {
	conn    *grpc.ClientConn
	product *containerd.Store
	store   api.StoreClient
	leases  leases.LeasesClient
	events  events.EventsClient
	traffic *traffic
}

// traffic counts the bytes of connections.
type traffic struct{ sent, received atomic.Int64 }

// dial is a gRPC dialer; it is given the socket as "unix:PATH".
func (t *traffic) dial(ctx context.Context, target string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(target, "unix:"))
	if err != nil {
		return nil, err
	}
	return counted{conn, t}, nil
}

// counted is a connection whose bytes are counted.
type counted struct {
	net.Conn
	by *traffic
}

// Read reads from the connection.
func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.by.received.Add(int64(n))
	return n, err
}

// Write writes to the connection.
func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.by.sent.Add(int64(n))
	return n, err
}

func newClient() (*client, error) {
	c := &client{traffic: &traffic{}}
	dial := grpc.WithContextDialer(c.traffic.dial)
	var err error
	c.conn, err = grpc.NewClient("unix:"+node.ContainerdSocket, dial, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to containerd: %w", err)
	}
	c.store, c.leases, c.events = api.NewStoreClient(c.conn), leases.NewLeasesClient(c.conn), events.NewEventsClient(c.conn)
	if c.product, err = containerd.NewStore(node.ContainerdSocket, criNamespace, dial); err != nil {
		return nil, errors.Join(err, c.conn.Close())
	}
	return c, nil
}

func (c *client) close() error { return errors.Join(c.conn.Close(), c.product.Close()) }

// in names the namespace of containerd's.
func (c *client) in(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", criNamespace)
}

// usage is what has been spent so far.
type usage struct {
	at             time.Time
	theirs, ours   time.Duration // containerd's time of the processor, and this process's
	sent, received int64
}

// use reads the counters.
func (w *world) use() (usage, error) {
	theirs, err := node.Ran(w.containerd)
	if err != nil {
		return usage{}, err
	}
	ours, err := node.Ran(unix.Getpid())
	return usage{at: time.Now(), theirs: theirs, ours: ours, sent: w.traffic.sent.Load(), received: w.traffic.received.Load()}, err
}

// cost is the difference between two readings.
type cost struct {
	took           time.Duration
	theirs, ours   time.Duration
	sent, received int64
}

// since is what came between an earlier reading and this.
func (u usage) since(before usage) cost {
	return cost{took: u.at.Sub(before.at), theirs: u.theirs - before.theirs, ours: u.ours - before.ours,
		sent: u.sent - before.sent, received: u.received - before.received}
}
