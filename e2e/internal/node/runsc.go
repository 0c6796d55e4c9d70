// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// copied is how runsc reports a neighbor that it took into the sandbox's network stack.
var copied = regexp.MustCompile(`Copying a static ARP entry: (\S+) (\S+)`)

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
	if !strings.Contains(log, "Setting up network, config:") {
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
