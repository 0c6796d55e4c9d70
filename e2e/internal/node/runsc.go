// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// copied is how runsc reports a neighbor that it took into the sandbox's network stack.
var copied = regexp.MustCompile(`Copying a static ARP entry: (\S+) (\S+)`)

// networkSetUp is what runsc logs next, with all that it has read.
const networkSetUp = "Setting up network, config:"

// Copied are the neighbors that runsc took from the pod's namespace, with their MACs. It is an error if runsc's
// log does not show that it got as far as the network: then it proves nothing.
func (p *Pod) Copied() (map[netip.Addr]string, error) { return CopiedBy(p.RunscLog("start")) }

// CopiedBy is Copied for the log of a runsc command that started or restored a sandbox.
func CopiedBy(path string) (map[netip.Addr]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read runsc's log: %w", err)
	}
	log := string(data)
	if !strings.Contains(log, networkSetUp) {
		return nil, fmt.Errorf("%s: runsc has not set the network up", path)
	}
	neighbors := map[netip.Addr]string{}
	for _, match := range copied.FindAllStringSubmatch(log, -1) {
		ip, err := netip.ParseAddr(match[1])
		if err != nil {
			return nil, fmt.Errorf("%s: parse %q: %w", path, match[0], err)
		}
		mac, err := net.ParseMAC(match[2])
		if err != nil {
			return nil, fmt.Errorf("%s: parse %q: %w", path, match[0], err)
		}
		neighbors[ip] = mac.String()
	}
	return neighbors, nil
}

// RunscLog is the log of one runsc command ("create", "start", "boot"...) on the sandbox.
func (p *Pod) RunscLog(command string) string {
	return filepath.Join(dir, "logs", "runsc", p.ID, command+".log")
}

// runscTime is how each line of runsc's log begins: a letter, month and day, local time.
var runscTime = regexp.MustCompile(`^[A-Z](\d{4} \d\d:\d\d:\d\d\.\d{6}) `)

// RunscBegan is when the process of a runsc command on the sandbox wrote the first line of its log.
func (p *Pod) RunscBegan(command string) (time.Time, error) {
	path := p.RunscLog(command)
	data, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, fmt.Errorf("read runsc's log: %w", err)
	}
	began, err := runscLineTime(data)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: its first line: %w", path, err)
	}
	return began, nil
}

// ReadNeighbors is when runsc read the pod's neighbors: when its log says that it copies the first, else that it sets
// the network up with what it has read.
func (p *Pod) ReadNeighbors() (time.Time, error) {
	path := p.RunscLog("start")
	data, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, fmt.Errorf("read runsc's log: %w", err)
	}
	for line := range bytes.Lines(data) {
		if copied.Match(line) || bytes.Contains(line, []byte(networkSetUp)) {
			at, err := runscLineTime(line)
			if err != nil {
				return time.Time{}, fmt.Errorf("%s: a line about the network: %w", path, err)
			}
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: runsc has not set the network up", path)
}

// runscLineTime is the time that a line begins with.
func runscLineTime(line []byte) (time.Time, error) {
	match := runscTime.FindSubmatch(line)
	if match == nil {
		return time.Time{}, errors.New("it has no time")
	}
	at, err := time.ParseInLocation("0102 15:04:05.000000", string(match[1]), time.Local)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse its time: %w", err)
	}
	now := time.Now()
	if at = at.AddDate(now.Year(), 0, 0); at.After(now) {
		at = at.AddDate(-1, 0, 0) // at the turn of the year
	}
	return at, nil
}
