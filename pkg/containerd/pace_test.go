// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/neighpin/neighpin/internal/nstest"
)

// The first pod may start as soon as containerd is back.
func TestContainerdIsLookedForAboutOncePerSecondWhileItIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := open(t, filepath.Join(t.TempDir(), "absent"))
		store.conn.Connect()
		<-time.After(time.Second)
		if dials := store.process.dials.Load(); dials < 4 || dials > 8 {
			t.Errorf("%d attempts in the first second, want some six", dials)
		}
		before := store.process.dials.Load()
		<-time.After(time.Minute)
		if dials := store.process.dials.Load() - before; dials < 45 || dials > 90 {
			t.Errorf("%d attempts in a minute, want some sixty", dials)
		}
	})
}

// As one that hangs while it starts; the next may be at the socket long since.
func TestAContainerdThatSaysNothingIsNotWaitedForForLong(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	store := open(t, socket)
	store.conn.Connect()
	nstest.Eventually(t, "another attempt", func() bool { return store.process.dials.Load() > 1 })
}

func TestWhatTheLeasesSaidServesForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said recent
		said.note(1, []string{"b"}, 2)
		<-time.After(time.Millisecond)
		if unknown, all := said.still([]string{"a"}); len(unknown) != 1 || all != 2 {
			t.Errorf("after a moment: %q of %d", unknown, all)
		}
		<-time.After(10 * time.Millisecond) // a tenth of what CNI takes at the least
		if unknown, all := said.still([]string{"a"}); len(unknown) != 0 {
			t.Errorf("later: %q of %d", unknown, all)
		}
	})
}

func TestTheFirstPodOfANodeIsFoundByItsLease(t *testing.T) {
	server := &fakeServer{sandboxes: someSandboxes(1)}
	records, err := serve(t, server).List(t.Context(), nil)
	if err != nil || len(records) != 1 || server.lists != 0 || server.gets.Load() != 1 {
		t.Errorf("%d lists and %d questions for one sandbox gave %+v, %v", server.lists, server.gets.Load(), records, err)
	}
}

func TestFewRecordsAreAskedForSideBySide(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var asked atomic.Int32
	both := make(chan struct{})
	server := &fakeServer{sandboxes: someSandboxes(2), onGet: func(ctx context.Context) error {
		if asked.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	if records, err := serve(t, server).List(ctx, nil); err != nil || len(records) != 2 {
		t.Errorf("%+v, %v", records, err)
	}
}

// containerd's own limit is 16 MiB; gRPC's would be 4.
func TestAListMayHaveManyMebibytes(t *testing.T) {
	server := &fakeServer{}
	for i := range 40 {
		sandbox := sandboxWith(`{"Version":"v1","Metadata":{"Config":{"annotations":{"x":"` + strings.Repeat("x", 256<<10) + `"}}}}`)
		sandbox.SandboxID = fmt.Sprintf("%064x", i)
		server.sandboxes = append(server.sandboxes, sandbox)
	}
	records, err := serve(t, server).List(t.Context(), nil)
	if err != nil || len(records) != 40 || server.lists != 1 || server.gets.Load() != 0 {
		t.Errorf("%d lists and %d questions for one sandbox gave %d records, %v", server.lists, server.gets.Load(), len(records), err)
	}
}
