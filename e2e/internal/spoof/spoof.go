// SPDX-License-Identifier: Apache-2.0

// Package spoof is a station on a segment that claims to be others: it answers every question for their IP addresses, and
// announces itself as their owner all the time, to everybody, by gratuitous ARP and by advertisements with the override flag.
package spoof

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// interval is the pause between two announcements. The kernel takes a first rumor only when it has heard another a second
// before (locktime), so most are in vain for ARP; none is lost for IPv6.
const interval = 20 * time.Millisecond

// Spoofer claims addresses until it is closed. Its methods may be called concurrently.
type Spoofer struct {
	file    *os.File
	mac     net.HardwareAddr
	ips     []netip.Addr
	stop    chan struct{}
	running sync.WaitGroup

	answered, announced atomic.Int64

	mu  sync.Mutex
	err error
}

// Start opens a packet socket on the link in the calling thread's network namespace and claims the addresses for the link's own
// MAC from now on. It needs CAP_NET_RAW there.
func Start(name string, ips ...netip.Addr) (*Spoofer, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("find the spoofer's link %s: %w", name, err)
	}
	const all = unix.ETH_P_ALL
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Index}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind the packet socket to %s: %w", name, err)
	}
	s := &Spoofer{file: os.NewFile(uintptr(fd), "packet socket"), mac: link.HardwareAddr, ips: ips, stop: make(chan struct{})}
	s.running.Go(s.answer)
	s.running.Go(s.announce)
	return s, nil
}

// MAC is the address that the spoofer claims everything for.
func (s *Spoofer) MAC() string { return s.mac.String() }

// Answered is how many questions the spoofer has answered.
func (s *Spoofer) Answered() int64 { return s.answered.Load() }

// Announced is how many claims the spoofer sent that nobody had asked for.
func (s *Spoofer) Announced() int64 { return s.announced.Load() }

// Close ends the spoofer. It returns an error if it could not do what it should have, since then whoever held out proves nothing.
func (s *Spoofer) Close() error {
	close(s.stop)
	err := s.file.Close()
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.err)
}

// answer is the goroutine that replies; closing the file ends it.
func (s *Spoofer) answer() {
	buffer := make([]byte, 1<<16)
	for {
		n, err := s.file.Read(buffer)
		if err != nil {
			s.fail("receive", err)
			return
		}
		q, ok := parse(buffer[:n])
		if !ok || slices.Equal(q.mac, s.mac) || !slices.Contains(s.ips, q.target) {
			continue
		}
		if _, err := s.file.Write(claim(q.target, s.mac, q)); err != nil {
			s.fail("answer", err)
			return
		}
		s.answered.Add(1)
	}
}

// announce is the goroutine that speaks unasked.
func (s *Spoofer) announce() {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		for _, ip := range s.ips {
			if _, err := s.file.Write(claim(ip, s.mac, question{})); err != nil {
				s.fail("announce", err)
				return
			}
			s.announced.Add(1)
		}
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
	}
}

// fail keeps the first error that is not the end.
func (s *Spoofer) fail(what string, err error) {
	select {
	case <-s.stop:
		return
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, fmt.Errorf("spoof: %s: %w", what, err))
}
