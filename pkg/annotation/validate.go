// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
		return at("neighbors", "%w: %d entries, at most %d", ErrTooLarge, len(a.Neighbors), MaxNeighbors)
	}

	type key struct {
		dst netip.Addr
		dev string
	}
	seen := make(map[key]int, len(a.Neighbors))
	for i, e := range a.Neighbors {
		path := fmt.Sprintf("neighbors[%d]", i)
		if err := e.validate(path); err != nil {
			return err
		}
		k := key{e.Dst, e.Dev}
		if j, ok := seen[k]; ok {
			return at(path, "the same dst and dev as neighbors[%d]: %s on %s", j, e.Dst, quote(e.Dev))
		}
		seen[k] = i
	}
	return nil
}

func (e Entry) validate(path string) error {
	if err := checkDst(e.Dst); err != nil {
		return at(path+".dst", "%w", err)
	}
	if err := checkDev(e.Dev); err != nil {
		return at(path+".dev", "%w", err)
	}
	if err := checkLLAddr(e.LLAddr); err != nil {
		return at(path+".lladdr", "%w", err)
	}
	if !slices.Contains(sources[:], e.Source) {
		return at(path+".source", "want one of %v, got %s", sources, quote(string(e.Source)))
	}
	return nil
}

// checkTime admits what RFC 3339 can express and a writer has really set.
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
	digits, err := hex.DecodeString(strings.ReplaceAll(string(a), ":", ""))
	if err != nil || len(digits) != len(b) {
		return b, false
	}
	copy(b[:], digits)
	canonical := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
	return b, canonical == string(a)
}
