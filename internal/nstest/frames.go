// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"net"

	"golang.org/x/sys/unix"
)

// Send puts whole Ethernet frames on a link of the namespace.
func (n *NS) Send(link string, frames ...[]byte) {
	n.tb.Helper()
	if err := n.Do(func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, frame := range frames {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		n.tb.Fatal(err)
	}
}
