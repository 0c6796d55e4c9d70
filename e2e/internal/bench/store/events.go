// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	events "github.com/containerd/containerd/api/services/events/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// heard are containerd's events since listen was called.
type heard struct {
	stream grpc.ServerStreamingClient[types.Envelope]
	stop   context.CancelFunc
}

// listen subscribes and returns when the subscription stands: a first event of its own has come back.
func (c *client) listen(ctx context.Context) (*heard, error) {
	const topic = "/neighpin/bench"
	ctx, stop := context.WithCancel(c.in(ctx))
	stream, err := c.events.Subscribe(ctx, &events.SubscribeRequest{})
	if err != nil {
		stop()
		return nil, fmt.Errorf("subscribe to containerd's events: %w", err)
	}
	nothing, err := anypb.New(&emptypb.Empty{})
	if err != nil {
		stop()
		return nil, err
	}
	stands := make(chan error, 1)
	go func() { // ends with the first event, or with the stream
		_, err := stream.Recv()
		stands <- err
	}()
	err = await.Within(ctx, answerLimit, "containerd's events", func() error {
		if _, err := c.events.Publish(ctx, &events.PublishRequest{Topic: topic, Event: nothing}); err != nil {
			return err
		}
		select {
		case err := <-stands:
			return err
		default:
			return errors.New("no event has come")
		}
	})
	if err != nil {
		stop()
		return nil, err
	}
	return &heard{stream, stop}, nil
}

// announcement is the first event that names a sandbox.
type announcement struct {
	topic string
	ready bool // the sandbox's record had CNI's result then: it was too late for a pin that waits for it
	err   error
}

// first waits for the first event that names a sandbox which has a lease; the store must have had none when listen was called.
func (c *client) first(ctx context.Context, h *heard) announcement {
	for {
		envelope, err := h.stream.Recv()
		if err != nil {
			return announcement{err: fmt.Errorf("receive containerd's events: %w", err)}
		}
		list, err := c.leases.List(c.in(ctx), &leases.ListRequest{})
		if err != nil {
			return announcement{err: fmt.Errorf("list leases: %w", err)}
		}
		for _, lease := range list.GetLeases() {
			if !bytes.Contains(envelope.GetEvent().GetValue(), []byte(lease.GetID())) {
				continue
			}
			record, err := c.store.Get(c.in(ctx), &api.StoreGetRequest{SandboxID: lease.GetID()})
			if err != nil {
				return announcement{err: fmt.Errorf("read the record of sandbox %s: %w", lease.GetID(), err)}
			}
			var metadata struct {
				Metadata struct{ CNIResult json.RawMessage }
			}
			err = json.Unmarshal(record.GetSandbox().GetExtensions()[metadataKey].GetValue(), &metadata)
			return announcement{topic: envelope.GetTopic(), ready: len(metadata.Metadata.CNIResult) > len("null"), err: err}
		}
	}
}
