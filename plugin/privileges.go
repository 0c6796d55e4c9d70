// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// privilegedPorts end here unless net.ipv4.ip_unprivileged_port_start says
// otherwise.
const privilegedPorts = 1024

// needed are the capabilities that the daemon works with under a configuration.
// docs/security.md says what for, and which were thought of and are not needed.
func needed(config Config) []cap.Value {
	// setns(2), for as long as sandboxes come; entries; and one socket that hears of
	// all namespaces.
	keep := []cap.Value{cap.SYS_ADMIN, cap.NET_ADMIN, cap.NET_BROADCAST}
	if config.Learned == learnedProbe {
		keep = append(keep, cap.NET_RAW)
	}
	if config.Observe {
		keep = append(keep, cap.BPF)
	}
	if _, port, err := net.SplitHostPort(config.MetricsAddress); err == nil {
		if number, err := net.LookupPort("tcp", port); err == nil && number > 0 && number < privilegedPorts {
			keep = append(keep, cap.NET_BIND_SERVICE)
		}
	}
	return keep
}

// confine takes every capability from all threads of the process but those of keep
// that it has, and has no program that it might execute gain any. It gives none.
// What it returns is what is left, as names.
//
// The bounding set shrinks only where CAP_SETPCAP is granted, which it is not in the
// DaemonSet. Without it nothing is lost: the set bounds what an executed program
// gains, and with no_new_privs that is nothing (security/commoncap.c,
// cap_bprm_creds_from_file).
func confine(keep []cap.Value) (left string, err error) {
	have, want, bounded := cap.GetProc(), cap.NewSet(), cap.NewIAB()
	var names []string
	for _, c := range keep {
		if granted, err := have.GetFlag(cap.Permitted, c); err != nil || !granted {
			continue // check and the feature itself say what is missing
		}
		if err := errors.Join(want.SetFlag(cap.Permitted, true, c), want.SetFlag(cap.Effective, true, c)); err != nil {
			return "", err
		}
		names = append(names, strings.TrimPrefix(strings.ToUpper(c.String()), "CAP_"))
	}
	if able, err := have.GetFlag(cap.Effective, cap.SETPCAP); err == nil && able {
		// What is not permitted is to leave the bounding set.
		if err := bounded.Fill(cap.Bound, want, cap.Permitted); err != nil {
			return "", err
		}
	}
	// This empties the inheritable and ambient sets, too.
	if err := bounded.SetProc(); err != nil {
		return "", fmt.Errorf("limit what a program may gain: %w", err)
	}
	if err := want.SetProc(); err != nil {
		return "", fmt.Errorf("drop capabilities: %w", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("set no_new_privs: %w", err)
	}
	return strings.Join(names, ","), nil
}
