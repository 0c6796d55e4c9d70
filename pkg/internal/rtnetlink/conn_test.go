// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

// Answers to requests whose caller went away, and parts of dumps that nobody reads
// to their end, are not taken for answers to what is asked next.
func TestAnswersToEarlierRequests(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	pod.Flood(2000, 2000)
	pod.IP("neigh add 10.0.0.1 lladdr " + otherMAC + " dev eth0 nud permanent")
	c := dial(t, pod.NS)
	index, stop := linkIndex(t, c, "eth0"), errors.New("enough")
	keys := []Key{{mustAddr("10.0.0.1"), index}, {mustAddr("10.0.0.3"), index}, {mustAddr("10.0.0.1"), 1 << 20}}
	want := []string{otherMAC, "", "no such device"}
	for _, number := range []uint32{c.number, 1<<32 - 4, 1<<32 - 2} {
		c.number = number
		err := c.dump(t.Context(), routesRequest(unix.AF_UNSPEC), func() {}, func([]byte) error { return stop })
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if _, err := c.send(t.Context(), linkRequest(1, NSIDNone), linkRequest(index, NSIDNone), readRequest(keys[1])); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			entries := unanswered(len(keys))
			if err := c.readEntries(t.Context(), keys, entries); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				if e.Err != nil {
					got = append(got, errors.Unwrap(e.Err).Error())
					continue
				}
				got = append(got, e.LLAddr)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("after number %d (-want +got):\n%s", number, diff)
			}
		}
	}
	if n := routes(t, c); n != 2002 {
		t.Errorf("%d routes, want 2002", n)
	}
}

// A long dump ends with its caller's context, and with the Table.
func TestLongDumpThatNobodyWaitsFor(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	pod.Flood(2000, 10)
	for name, ending := range map[string]struct {
		end  func(c *Conn, cancel func())
		want error
	}{
		"the caller's": {func(_ *Conn, cancel func()) { cancel() }, context.Canceled},
		"Close": {func(c *Conn, _ func()) {
			go c.Close()
			nstest.Eventually(t, "Close to begin", c.closed.Load)
		}, os.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, pod.NS)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			routes := 0
			err := c.dump(ctx, routesRequest(unix.AF_UNSPEC), func() {}, func([]byte) error {
				if routes++; routes == 1 {
					ending.end(c, cancel)
				}
				return nil
			})
			if !errors.Is(err, ending.want) || routes >= 2000 {
				t.Errorf("%v after %d routes", err, routes)
			}
		})
	}
}

// A dump that is given up halfway must not spoil what comes after it.
func TestDumpThatIsGivenUp(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	batch := make([]string, 0, 3000) // more than one datagram
	for i := range cap(batch) {
		batch = append(batch, fmt.Sprintf("route add 198.18.%d.%d/32 via 10.0.0.3", i/250, i%250+1))
	}
	pod.IP(batch...)
	c := dial(t, pod.NS)
	stop := errors.New("enough")
	for range 3 {
		calls := 0
		err := c.dump(t.Context(), routesRequest(unix.AF_INET), func() {}, func([]byte) error {
			calls++
			return stop
		})
		if !errors.Is(err, stop) || calls != 1 {
			t.Errorf("error %v after %d routes", err, calls)
		}
	}
	// One whose answer was not even read, as when memory ran out.
	if _, err := c.send(t.Context(), routesRequest(unix.AF_INET).flag(unix.NLM_F_DUMP)); err != nil {
		t.Fatal(err)
	}
	if n := routes(t, c); n != 3002 {
		t.Errorf("%d routes, want 3002", n)
	}
}

// No answer comes to a message that asks for none.
func TestAnswerThatDoesNotCome(t *testing.T) {
	c := dial(t, nstest.New(t).NS)
	nothing := newRequest(unix.NLMSG_NOOP, 0, unix.AF_UNSPEC, 1)
	ask := func(ctx context.Context) error { return c.exchange(ctx, func(int, []byte, error) {}, nothing) }
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- ask(context.Background()) }()
	nstest.Eventually(t, "the request to wait", func() bool {
		if c.request.TryLock() {
			c.request.Unlock()
			return false
		}
		return true
	})
	c.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	case <-time.After(answerTimeout / 2):
		t.Error("the request still waits")
	}
}

// The kernel refuses this dump with words of its own.
func TestDumpThatTheKernelRefuses(t *testing.T) {
	c := dial(t, nstest.New(t).NS)
	const nobody = 77
	if _, err := c.Holders(t.Context(), 1, nobody, mustAddr("10.0.0.1")); !errors.Is(err, unix.EINVAL) {
		t.Errorf("addresses of a namespace that is not there: %v", err)
	}
}

// Routes fill many parts of a dump, of both sizes that there are.
func TestRoutesThatFillManyParts(t *testing.T) {
	_, pod := nstest.DualStackPair(t)
	pod.Flood(3000, 3000)
	c := dial(t, pod.NS)
	for range 2 {
		if n := routes(t, c); n != 3002 {
			t.Errorf("%d routes, want 3002", n)
		}
	}
	if len(c.in) != dumpSize {
		t.Errorf("read with room for %d bytes", len(c.in))
	}
}

// The kernel of the tests has no job of CAN's, which has a shorter fixed part (struct
// rtcanmsg) and attributes that mean something else (include/uapi/linux/can/gw.h:
// CGW_SRC_IF, CGW_DST_IF).
func TestRoutesOfOtherFamiliesArePassedOver(t *testing.T) {
	job := append([]byte{unix.AF_CAN, 1, 0, 0}, append(serialized32(9, 2), serialized32(10, 3)...)...)
	if err := readRoute(job, func(r Route) { t.Errorf("%+v", r) }); err != nil {
		t.Error(err)
	}
	if err := readRoute(nil, func(r Route) { t.Errorf("%+v", r) }); !errors.Is(err, ErrMalformed) {
		t.Errorf("nothing: %v", err)
	}
}

// A link's names make what the kernel says of it longer than any usual answer, and a
// dump of it that nobody has read to its end is in the way of the next.
func TestDumpOfALinkWithHundredsOfNames(t *testing.T) {
	for _, names := range []int{70, 200, 450} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			_, pod := nstest.DualStackPair(t)
			rename(pod, "eth0", names)
			c := dial(t, pod.NS)
			for range 3 {
				if _, err := c.send(t.Context(), linksRequest(NSIDNone).flag(unix.NLM_F_DUMP)); err != nil {
					t.Fatal(err)
				}
				if l, err := c.LinkByName(t.Context(), "eth0"); err != nil || l.Name != "eth0" {
					t.Errorf("%+v, %v", l, err)
				}
			}
		})
	}
}

// rename gives a link that many further names, each as long as may be, which its
// messages list.
func rename(ns *nstest.NS, link string, names int) {
	lines := make([]string, names)
	for i := range lines {
		lines[i] = fmt.Sprintf("link property add dev %s altname a%s%d", link, strings.Repeat("x", 120), i)
	}
	ns.IP(lines...)
}
