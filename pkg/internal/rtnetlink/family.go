// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// FamilyOf is the family of an address, AF_INET or AF_INET6.
func FamilyOf(addr netip.Addr) uint8 {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// NoFamily tells whether the kernel refused because it does not have a family, as one
// without IPv6.
func NoFamily(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

const (
	lladdrLen  = 6
	zeroLLAddr = "00:00:00:00:00:00"
)

// lladdr puts what the kernel says into the usual form: lower case, six pairs with
// colons. Anything but six bytes is no Ethernet address and gives none.
func lladdr(b []byte) string {
	if len(b) != lladdrLen {
		return ""
	}
	const digits = "0123456789abcdef"
	var s [3*lladdrLen - 1]byte
	for i, c := range b {
		if i > 0 {
			s[3*i-1] = ':'
		}
		s[3*i], s[3*i+1] = digits[c>>4], digits[c&0xf]
	}
	return string(s[:])
}
