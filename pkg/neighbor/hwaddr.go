// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"fmt"
	"net"
)

// HardwareAddr is an Ethernet address in its usual form: lower case, six pairs
// with colons. The zero value means no address.
type HardwareAddr string

const hwaddrLen = 6

// ParseHardwareAddr reads an address in the usual form; upper case is accepted.
// Only what may be the address of one station is: neither all zeros nor a group
// address.
func ParseHardwareAddr(s string) (HardwareAddr, error) {
	b, err := net.ParseMAC(s)
	if err != nil || len(s) != len("00:00:00:00:00:00") || s[2] != ':' {
		return "", fmt.Errorf("parse link-layer address %q: want six hexadecimal pairs with colons", s)
	}
	a := HardwareAddr(b.String())
	if !a.IsUnicast() {
		return "", fmt.Errorf("parse link-layer address %q: not the address of one station", s)
	}
	return a, nil
}

// String returns the address as it is.
func (a HardwareAddr) String() string { return string(a) }

// IsUnicast tells whether the address may be that of one station: it is one, not
// zero, and not a group address.
func (a HardwareAddr) IsUnicast() bool {
	b, ok := a.bytes()
	return ok && b != [hwaddrLen]byte{} && b[0]&1 == 0
}

// UnmarshalText reads an address as ParseHardwareAddr does, for JSON and YAML. Empty
// text is the zero value: it is how that is written.
func (a *HardwareAddr) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*a = ""
		return nil
	}
	*a, err = ParseHardwareAddr(string(text))
	return err
}

func (a HardwareAddr) bytes() (b [hwaddrLen]byte, ok bool) {
	if len(a) != 3*hwaddrLen-1 {
		return b, false
	}
	for i := range b {
		if i > 0 && a[3*i-1] != ':' {
			return b, false
		}
		high, low := digit(a[3*i]), digit(a[3*i+1])
		if high > 0xf || low > 0xf {
			return b, false
		}
		b[i] = high<<4 | low
	}
	return b, true
}

// digit reads a hexadecimal one; more than fifteen stands for none.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
