// SPDX-License-Identifier: Apache-2.0

// Package wire records who asks for whom: ARP requests and replies, IPv6 neighbor solicitations and
// advertisements, on every link of a network namespace.
//
// A capture sees what the kernel hands to or takes from a link's driver (AF_PACKET), which for the host end of
// a veth is exactly what the pod sent and was sent.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// Kind says what a message is.
type Kind string

// The kinds of messages that are recorded.
const (
	ARPRequest    Kind = "ARP request"
	ARPReply      Kind = "ARP reply"
	Solicitation  Kind = "NS"
	Advertisement Kind = "NA"
)

// Message is one message on one link.
type Message struct {
	Time time.Time
	// Link is the link's name; "#N" if it was gone before its name was asked for.
	Link string
	// Incoming is true for what came from the other end of the link: from the pod.
	Incoming bool
	Kind     Kind
	// Sender is the address that asks or answers. Unspecified in the probes of duplicate address detection.
	Sender netip.Addr
	// Target is the address asked or answered for.
	Target netip.Addr
	// MAC is the sender's, from the Ethernet header.
	MAC string
}

// String reads like a line of tcpdump.
func (m Message) String() string {
	direction := "out"
	if m.Incoming {
		direction = "in"
	}
	return fmt.Sprintf("%s %s %s %s from %s (%s) for %s", m.Time.Format("15:04:05.000000"), m.Link, direction, m.Kind, m.Sender, m.MAC, m.Target)
}

// Capture records until it is closed. Its methods may be called concurrently.
type Capture struct {
	file    *os.File
	links   *netlink.Handle // of the capture's namespace, whatever thread asks
	closing atomic.Bool
	done    chan struct{}

	mu       sync.Mutex
	buffer   []byte // for one frame
	messages []Message
	names    map[int]string
	err      error
}

// Open begins a capture on all links of the calling thread's network namespace. What is sent after it returns is recorded.
func Open() (*Capture, error) { return open(0) }

// OpenOn is Open for one link only. On a bridge that is what the node itself is given and sends, and not what passes.
func OpenOn(link string) (*Capture, error) {
	found, err := netlink.LinkByName(link)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", link, err)
	}
	return open(found.Attrs().Index)
}

func open(index int) (*Capture, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := attach(fd, index); err != nil {
		unix.Close(fd)
		return nil, err
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open a socket to ask for links: %w", err)
	}
	c := &Capture{file: os.NewFile(uintptr(fd), "packet socket"), links: links, done: make(chan struct{}), buffer: make([]byte, 1<<16), names: map[int]string{}}
	go c.receive()
	return c, nil
}

// attach filters before the socket is bound to all protocols, so that nothing else gets in. Link 0 is all links.
func attach(fd, index int) error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 2},
		bpf.LoadAbsolute{Off: 14 + 6, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	})
	if err != nil {
		return fmt.Errorf("assemble the filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(program))
	for i, instruction := range program {
		filter[i] = unix.SockFilter{Code: instruction.Op, Jt: instruction.Jt, Jf: instruction.Jf, K: instruction.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("attach the filter: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		return fmt.Errorf("enlarge the receive buffer: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return fmt.Errorf("bind the packet socket: %w", err)
	}
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Close ends the capture. It returns an error if messages were lost or could not be read, since then silence
// proves nothing.
func (c *Capture) Close() error {
	lost := c.lost()
	c.closing.Store(true)
	closed := c.file.Close()
	<-c.done
	c.links.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(lost, closed, c.err)
}

// lost asks the kernel whether it dropped messages because the socket's buffer was full.
func (c *Capture) lost() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var stats *unix.TpacketStats
	var asked error
	if err := raw.Control(func(fd uintptr) {
		stats, asked = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); err != nil {
		return err
	}
	if asked != nil {
		return fmt.Errorf("ask for lost messages: %w", asked)
	}
	if stats.Drops > 0 {
		return fmt.Errorf("the capture lost %d messages", stats.Drops)
	}
	return nil
}

// receive is the capture's goroutine; closing the file ends it.
func (c *Capture) receive() {
	defer close(c.done)
	raw, err := c.file.SyscallConn()
	if err != nil {
		c.fail(err)
		return
	}
	for {
		var received error
		err := raw.Read(func(fd uintptr) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			received = c.drain(int(fd))
			return !errors.Is(received, unix.EAGAIN)
		})
		switch {
		case err != nil && c.closing.Load():
			return
		case err != nil:
			c.fail(err)
			return
		case received != nil:
			c.fail(received)
			return
		}
	}
}

// drain records what the socket holds. It returns EAGAIN when that is all; the caller holds mu.
func (c *Capture) drain(fd int) error {
	for {
		n, from, err := unix.Recvfrom(fd, c.buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue // of a link that went; the socket listens to all
		case err != nil:
			return err
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok {
			if message, ok := decode(c.buffer[:n]); ok {
				c.record(message, link)
			}
		}
	}
}

func (c *Capture) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("receive: %w", err)
}

// record is called with mu held.
func (c *Capture) record(message Message, link *unix.SockaddrLinklayer) {
	name, ok := c.names[link.Ifindex]
	if !ok {
		name = fmt.Sprintf("#%d", link.Ifindex)
		if found, err := c.links.LinkByIndex(link.Ifindex); err == nil {
			name = found.Attrs().Name
			c.names[link.Ifindex] = name
		}
	}
	message.Time, message.Link, message.Incoming = time.Now(), name, link.Pkttype != unix.PACKET_OUTGOING
	c.messages = append(c.messages, message)
}

// Query selects messages; zero fields select all.
type Query struct {
	Link  string
	Since time.Time
	// Targets are the addresses asked for.
	Targets []netip.Addr
	Kinds   []Kind
	// Incoming leaves out what the host's side sent.
	Incoming bool
}

// Asks selects the pod's own questions for the addresses on the link, in either family.
func Asks(link string, since time.Time, targets ...netip.Addr) Query {
	return Query{Link: link, Since: since, Targets: targets, Kinds: []Kind{ARPRequest, Solicitation}, Incoming: true}
}

func (q Query) selects(m Message) bool {
	return (q.Link == "" || q.Link == m.Link) && !m.Time.Before(q.Since) &&
		(len(q.Targets) == 0 || slices.Contains(q.Targets, m.Target)) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, m.Kind)) &&
		(!q.Incoming || m.Incoming)
}

// Messages returns what was recorded so far and is selected, in the order it was received. Nothing that was sent before the call is
// missing: what still waits in the socket is recorded first.
func (c *Capture) Messages(q Query) []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	if raw, err := c.file.SyscallConn(); err == nil {
		// It fails when the capture is closed, which has all; an error of the socket's own meets the goroutine, too.
		_ = raw.Control(func(fd uintptr) { _ = c.drain(int(fd)) })
	}
	var selected []Message
	for _, m := range c.messages {
		if q.selects(m) {
			selected = append(selected, m)
		}
	}
	return selected
}

// Await waits until at least count messages are selected.
func (c *Capture) Await(ctx context.Context, q Query, count int) ([]Message, error) {
	var messages []Message
	err := await.Condition(ctx, fmt.Sprintf("%d messages", count), func() error {
		messages = c.Messages(q)
		if len(messages) < count {
			return fmt.Errorf("%d so far", len(messages))
		}
		return nil
	})
	return messages, err
}

// Format writes messages for people, a line each.
func Format(messages []Message) string {
	var text strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&text, "  %s\n", m)
	}
	return text.String()
}
