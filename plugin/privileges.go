// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/neighpin/neighpin/internal/config"
)

// privilegedPorts end here unless net.ipv4.ip_unprivileged_port_start says
// otherwise.
const privilegedPorts = 1024

// needed are the capabilities that the daemon works with under a configuration.
// docs/security.md says what for, and which were thought of and are not needed.
func needed(conf config.Config) []cap.Value {
	// setns(2), for as long as sandboxes come; entries; and one socket that hears of
	// all namespaces.
	keep := []cap.Value{cap.SYS_ADMIN, cap.NET_ADMIN, cap.NET_BROADCAST}
	if conf.Learned == config.LearnedProbe {
		keep = append(keep, cap.NET_RAW)
	}
	if conf.Observe {
		keep = append(keep, cap.BPF)
	}
	if _, port, err := net.SplitHostPort(conf.MetricsAddress); err == nil {
		if number, err := net.LookupPort("tcp", port); err == nil && number > 0 && number < privilegedPorts {
			keep = append(keep, cap.NET_BIND_SERVICE)
		}
	}
	return keep
}
