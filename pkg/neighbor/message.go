// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net/netip"
	"strconv"
)

// refuse makes a parser, which defers it, give errMalformed and nothing else for
// what it cannot read. The library trusts the lengths in a message and panics
// where they are wrong (nl.ParseRouteAttr behind an attribute without padding,
// netlink.LinkDeserialize at a name without its zero). All messages are the
// kernel's, but one must not be able to end the daemon of a whole node.
func refuse[T any](v *T, err *error) {
	cause := any(*err)
	if r := recover(); r != nil {
		cause = r
	}
	if cause != nil {
		*v = *new(T)
		*err = fmt.Errorf("%w: %v", errMalformed, cause) // %v: its EINVAL is not the kernel's
	}
}

// address reads an address of the family that its length tells; anything else
// gives none. Mapped addresses are left alone: the kernel has none of them as
// gateways, and unmapping one would move an entry to the other table.
func address(v []byte) netip.Addr {
	addr, _ := netip.AddrFromSlice(v)
	return addr
}

// isPlain tells whether s is printable ASCII. A link's name may be nearly any
// bytes (net/core/dev.c, dev_valid_name).
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// printable returns s in a form that cannot break a log or a terminal.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
