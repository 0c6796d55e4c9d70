// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/internal/plain"
)

// answer gives what the kernel says to requests that are sent in one go, as it is.
func answer(tb testing.TB, c *Conn, requests ...*request) (datagrams [][]byte) {
	tb.Helper()
	last, err := c.send(tb.Context(), requests...)
	if err != nil {
		tb.Fatal(err)
	}
	for {
		b, _, err := c.receive(&wait{ctx: tb.Context()})
		if err != nil {
			tb.Fatal(err)
		}
		datagrams = append(datagrams, bytes.Clone(b))
		for m, ok := next(&b); ok; m, ok = next(&b) {
			if m.number == last && m.flags&unix.NLM_F_MULTI == 0 || m.kind == unix.NLMSG_DONE {
				return datagrams
			}
		}
	}
}

// Whatever stands in a datagram, taking it apart ends, stays within it, and a
// refusal is the kernel's number with words that can be printed.
func FuzzResponse(f *testing.F) {
	_, pod := nstest.DualStackPair(f)
	c := dial(f, pod.NS)
	pod.Sysctl("net/ipv6/conf/lo/disable_ipv6", "1")
	for _, requests := range [][]*request{
		{linkRequest(1, NSIDNone)}, {linkRequest(77, NSIDNone), readRequest(Key{mustAddr("10.0.0.9"), 1})},
		{Pin{Key: Key{mustAddr("fd00::9"), 1}, LLAddr: [6]byte{2}}.request(IfAbsent).flag(unix.NLM_F_ACK)}, // refused with words
		{Pin{Key: Key{mustAddr("10.0.0.9"), 1}, LLAddr: [6]byte{2}}.request(IfAbsent).flag(unix.NLM_F_ACK)},
		{linksRequest(NSIDNone).flag(unix.NLM_F_DUMP)}, {addrsRequest(unix.AF_INET, 1, 77).flag(unix.NLM_F_DUMP)},
	} {
		for _, b := range answer(f, c, requests...) {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rest := bytes.Clone(b)
		for left := len(rest) + 1; ; left = len(rest) {
			m, ok := next(&rest)
			if !ok {
				return
			}
			if len(rest) >= left || len(m.body) > len(b)-unix.SizeofNlMsghdr {
				t.Fatalf("%d bytes are left of %d, the message has %d", len(rest), left, len(m.body))
			}
			err := m.failure()
			if errno := unix.Errno(0); err != nil && !errors.Is(err, ErrMalformed) && (!errors.As(err, &errno) || !isPlain(strings.TrimPrefix(err.Error(), errno.Error()))) {
				t.Fatalf("%v", err)
			}
		}
	})
}

// A refusal counts whatever its lengths say, and its words only where they are whole.
func TestRefusalsWithWrongLengths(t *testing.T) {
	const number = unix.EINVAL
	refusal := func(flags uint16, repeated uint32, attributes ...byte) response {
		code := -int32(number)
		body := binary.NativeEndian.AppendUint32(nil, uint32(code))
		body = binary.NativeEndian.AppendUint32(body, repeated)
		return response{kind: unix.NLMSG_ERROR, flags: flags, body: append(append(body, make([]byte, unix.SizeofNlMsghdr-4)...), attributes...)}
	}
	words := []byte{9, 0, unix.NLMSGERR_ATTR_MSG, 0, 'w', 'h', 'y', '\n', 0}
	if binary.NativeEndian.Uint16(words) != 9 {
		words = []byte{0, 9, 0, unix.NLMSGERR_ATTR_MSG, 'w', 'h', 'y', '\n', 0}
	}
	for name, c := range map[string]struct {
		response
		said bool
	}{
		"with words":                        {refusal(unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED, 20, words...), true},
		"with words behind the request":     {refusal(unix.NLM_F_ACK_TLVS, unix.SizeofNlMsghdr, words...), true},
		"words that are not told of":        {refusal(unix.NLM_F_CAPPED, 20, words...), false},
		"a request longer than the message": {refusal(unix.NLM_F_ACK_TLVS, 1<<20, words...), false},
		"a request as long as can be":       {refusal(unix.NLM_F_ACK_TLVS, 1<<32-1, words...), false},
		"words that are cut off":            {refusal(unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED, 20, words[:6]...), false},
	} {
		err := c.failure()
		if !errors.Is(err, number) || strings.Contains(err.Error(), "why") != c.said || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for body, want := range map[string]error{"": ErrMalformed, "\x00\x00\x00": ErrMalformed, "\x00\x00\x00\x00": nil} {
		if err := (response{kind: unix.NLMSG_ERROR, body: []byte(body)}).failure(); !errors.Is(err, want) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// Each answer is given with the place of its request, and none is left out.
func TestAnswersComeInTheOrderOfRequests(t *testing.T) {
	pod := nstest.New(t)
	c := dial(t, pod.NS)
	requests := make([]*request, 3*AtOnce)
	for i := range requests {
		requests[i] = readRequest(Key{mustAddr("10.0.0.9"), 1})
		if i%3 == 0 {
			requests[i] = linkRequest(1, NSIDNone)
		}
	}
	var got []int
	err := c.exchange(t.Context(), func(i int, body []byte, refused error) {
		if (i%3 == 0) != (refused == nil) || (i%3 == 0) != (len(body) > 0) {
			t.Errorf("request %d: %d bytes, %v", i, len(body), refused)
		}
		got = append(got, i)
	}, requests...)
	if err != nil || len(got) != len(requests) {
		t.Errorf("%d answers, %v", len(got), err)
	}
	for i, n := range got {
		if i != n {
			t.Fatalf("answers to %v", got)
		}
	}
}

func isPlain(s string) bool { return s == plain.Text(s) }
