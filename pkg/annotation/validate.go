// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// validate holds the rules that reading and writing share.
func (a *Annotation) validate() error {
	if a.Cookie == 0 {
		return at("cookie", "no network namespace has the cookie 0")
	}
	if err := checkTime(a.CapturedAt); err != nil {
		return at("capturedAt", "%w", err)
	}
	if len(a.Neighbors) > MaxNeighbors {
		return at("neighbors", "too large: %d entries, at most %d", len(a.Neighbors), MaxNeighbors)
	}

	type key struct {
		dst netip.Addr
		dev string
	}
	seen := make(map[key]int, len(a.Neighbors))
	for i, e := range a.Neighbors {
		if field, err := e.validate(); err != nil {
			return at(fmt.Sprintf("neighbors[%d].%s", i, field), "%w", err)
		}
		k := key{e.Dst, e.Dev}
		if j, ok := seen[k]; ok {
			return at(fmt.Sprintf("neighbors[%d]", i), "the same dst and dev as neighbors[%d]: %s on %s", j, e.Dst, quote(e.Dev))
		}
		seen[k] = i
	}
	return nil
}

// validate names the field that is not as it should be.
func (e Entry) validate() (field string, err error) {
	if err := checkDst(e.Dst); err != nil {
		return "dst", err
	}
	if err := checkDev(e.Dev); err != nil {
		return "dev", err
	}
	if err := checkLLAddr(e.LLAddr); err != nil {
		return "lladdr", err
	}
	if !slices.Contains(sources[:], e.Source) {
		return "source", fmt.Errorf("want one of %v, got %s", sources, quote(string(e.Source)))
	}
	return "", nil
}

func checkTime(t time.Time) error {
	if t.IsZero() {
		return fmt.Errorf("not set")
	}
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return fmt.Errorf("year %d has no RFC 3339 form", y)
	}
	return nil
}

// checkDst admits what can stand in a neighbor table as a unicast entry.
func checkDst(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("not set")
	case a.Zone() != "":
		// One place for the link only: dev stands beside it, and the index or
		// name in a zone belongs to whoever wrote it.
		return fmt.Errorf("want no zone (the link is dev), got %s", quote(a.String()))
	case a.Is4In6():
		return fmt.Errorf("want the IPv4 form of an IPv4-mapped address, got %s", a)
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == broadcast:
		return fmt.Errorf("want a unicast address, got %s", a)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// checkDev admits the names that the kernel takes (dev_valid_name in
// net/core/dev.c), as far as they are printable ASCII: the kernel also takes
// control characters and bytes that are no UTF-8, which JSON cannot carry and a
// log should not.
func checkDev(name string) error {
	if name == "" || len(name) > maxDev {
		return fmt.Errorf("want 1 to %d bytes, got %s", maxDev, quote(name))
	}
	if name == "." || name == ".." {
		return fmt.Errorf("%q is no interface name", name)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '/' || c == ':' {
			return fmt.Errorf("want printable ASCII without space, '/' and ':', got %s", quote(name))
		}
	}
	return nil
}

// checkLLAddr admits the addresses that one station can have: the lowest bit of
// the first byte marks a group (IEEE 802).
func checkLLAddr(a HardwareAddr) error {
	b, ok := a.decode()
	switch {
	case !ok:
		return fmt.Errorf("want six bytes as aa:bb:cc:dd:ee:ff in lower case, got %s", quote(string(a)))
	case b == [6]byte{}:
		return fmt.Errorf("want an address that is not zero")
	case b[0]&1 != 0:
		return fmt.Errorf("want a unicast address, got the group address %s", a)
	}
	return nil
}

// decode returns the bytes of an address, if it is in the form of the wire.
func (a HardwareAddr) decode() (b [6]byte, ok bool) {
	if len(a) != len("aa:bb:cc:dd:ee:ff") {
		return b, false
	}
	for i := range b {
		high, low := digit(a[3*i]), digit(a[3*i+1])
		if high < 0 || low < 0 || i > 0 && a[3*i-1] != ':' {
			return b, false
		}
		b[i] = byte(high<<4 | low)
	}
	return b, true
}

// digit is the value of a hexadecimal digit in lower case, else -1.
func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
