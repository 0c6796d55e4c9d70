// SPDX-License-Identifier: Apache-2.0

// Package privileges gives up what a process need not have.
package privileges

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Keep takes every capability from all threads of the process but those of keep
// that it has, and has no program that it might execute gain any. It gives none.
// What it returns is what is left, as names; with an error more may be left.
//
// The bounding set shrinks only where CAP_SETPCAP is granted, which it is not in the
// DaemonSet. Without it nothing is lost: the set bounds what an executed program
// gains, and with no_new_privs that is nothing (security/commoncap.c,
// cap_bprm_creds_from_file).
func Keep(keep []cap.Value) (left string, err error) {
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
	// One that fails is no reason to keep what the others give up. The first empties
	// the inheritable and ambient sets, too.
	var errs []error
	if err := bounded.SetProc(); err != nil {
		errs = append(errs, fmt.Errorf("limit what a program may gain: %w", err))
	}
	if err := want.SetProc(); err != nil {
		errs = append(errs, fmt.Errorf("drop capabilities: %w", err))
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("set no_new_privs: %w", err))
	}
	return strings.Join(names, ","), errors.Join(errs...)
}
