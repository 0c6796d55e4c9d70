// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestContextEndsARequest(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: ended, context.DeadlineExceeded: late} {
		if _, err := tb.Resolve(ctx, Query{}); !errors.Is(err, want) {
			t.Errorf("Resolve: %v, want %v", err, want)
		}
		if err := tb.Pin(ctx, []Neighbor{{Dev: "eth0", LLAddr: hostMAC, Dst: mustAddr("10.0.0.1")}}); !errors.Is(err, want) {
			t.Errorf("Pin: %v, want %v", err, want)
		}
	}
	expect(t, resolve(t, tb), gw4+"peer NONE", gw6+"peer NONE") // and it goes on
}

func TestManyAtOnceOnOneTable(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	tb := openTable(t, pod.NS)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				res, err := tb.Resolve(t.Context(), Query{})
				if err != nil || len(res.Neighbors) != 2 {
					t.Errorf("%v, %v", res, err)
					return
				}
				if err := tb.Pin(t.Context(), res.Neighbors); err != nil {
					t.Error(err)
				}
				if _, err := tb.Verify(t.Context(), res.Neighbors); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// The namespace changes all the while: dumps are interrupted, and each is
// started over until it is whole.
func TestResolveWhileRoutesChange(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	var batch []string
	for i := range 2000 {
		batch = append(batch, fmt.Sprintf("-6 route add 2001:db8::%x/128 via fd00::1", i))
	}
	for _, line := range batch[:1] {
		pod.Output(strings.Fields(line)...)
	}
	for i := range batch {
		batch[i] = strings.TrimPrefix(batch[i], "-6 ")
	}
	pod.IP(batch[1:]...)
	ctx, cancel := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	churn.Go(func() {
		for ctx.Err() == nil {
			pod.IP("route add 192.0.2.0/24 via 10.0.0.1", "route del 192.0.2.0/24", "route add 2001:db8:1::/48 via fd00::1", "route del 2001:db8:1::/48")
		}
	})
	tb := openTable(t, pod.NS)
	for range 30 {
		res, err := tb.Resolve(t.Context(), Query{})
		if errors.Is(err, ErrInterrupted) {
			continue // said, and not half of it
		}
		if err != nil {
			t.Error(err)
			break
		}
		expect(t, res, gw4+"peer NONE", gw6+"peer NONE")
	}
	cancel()
	churn.Wait()
}

func TestClosedTable(t *testing.T) {
	tb, err := Open(nstest.New(t).NS)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tb.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := tb.Resolve(t.Context(), Query{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Resolve after Close: %v", err)
	}
}

func TestOpenOnAClosedNamespace(t *testing.T) {
	ns := nstest.New(t)
	_ = ns.Close()
	if _, err := Open(ns.NS); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Open: %v", err)
	}
	if _, err := Watch(ns.NS); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Watch: %v", err)
	}
}

// A Table or Watcher keeps its namespace, and nothing does after Close.
func TestNamespaceDiesWithTheLastSocket(t *testing.T) {
	host := nstest.New(t)
	pod := nstest.New(t)
	pod.Veth("eth0", host, "lxc0")
	tb, err := Open(pod.NS)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Watch(pod.NS)
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.Resolve(t.Context(), Query{}); err != nil {
		t.Errorf("the Table outlives the handle: %v", err)
	}
	_, _ = tb.Close(), w.Close()
	nstest.Eventually(t, "the pod's end of the pair to go with its namespace", func() bool {
		return !strings.Contains(host.Output("link", "show"), "lxc0")
	})
}

func TestKernelsOwnWordsAreInTheError(t *testing.T) {
	_, pod := nstest.Pair(t)
	tb := openTable(t, pod.NS)
	pod.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")
	err := tb.Pin(t.Context(), []Neighbor{{Dst: mustAddr("fd00::1"), Dev: "eth0", LLAddr: hostMAC}})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "IPv6 is disabled on this device") {
		t.Errorf("error %v", err)
	}
}
