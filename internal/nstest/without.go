// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Without calls fn on a thread that lacks a capability for so long. The caller has
// locked the goroutine to its thread, as NS.Do does.
func Without(capability int, fn func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	less := data
	less[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&header, &less[0]); err != nil {
		return err
	}
	return errors.Join(fn(), unix.Capset(&header, &data[0]))
}
