// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Parse reads the value of the annotation [Key].
//
// It accepts the canonical form and nothing else: one JSON object of at most
// [MaxBytes], every key exactly once and no other, at most [MaxNeighbors]
// entries, addresses as netip.Addr.String and [HardwareAddr] have them,
// the time in UTC. The neighbors keep the order of the text. Any fault is an
// [*Error] that names the field; the size is checked before anything is decoded.
func Parse(s string) (*Annotation, error) {
	a, err := parse(s)
	if err != nil {
		return nil, during("parse", err)
	}
	return a, nil
}

func parse(s string) (*Annotation, error) {
	if len(s) > MaxBytes {
		return nil, at("", "too large: %d bytes, at most %d", len(s), MaxBytes)
	}
	root, err := parseTree(s)
	if err != nil {
		return nil, err
	}
	o, ok := root.(object)
	if !ok {
		return nil, at("", "want one JSON object, got %s", describe(root))
	}
	// The version comes before the other keys: those of another version may
	// rightly differ, and "unknown version" is then the truth of the matter.
	if err := checkVersion(o); err != nil {
		return nil, err
	}
	if err := o.exactly("", "version", "cookie", "capturedAt", "neighbors"); err != nil {
		return nil, err
	}
	a := &Annotation{}
	if a.Cookie, err = parseCookie(o["cookie"]); err != nil {
		return nil, err
	}
	if a.CapturedAt, err = parseTime(o["capturedAt"]); err != nil {
		return nil, err
	}
	if a.Neighbors, err = parseNeighbors(o["neighbors"]); err != nil {
		return nil, err
	}
	if err := a.validate(); err != nil {
		return nil, err
	}
	return a, nil
}

func checkVersion(o object) error {
	v, ok := o["version"]
	if !ok {
		return at("", "key %q is missing", "version")
	}
	n, ok := v.(json.Number)
	if !ok || !integer.MatchString(n.String()) {
		return at("version", "want the integer %d, got %s", Version, describe(v))
	}
	if n.String() != strconv.Itoa(Version) {
		return at("version", "%w: got %s, known here: %d", ErrVersion, shorten(n.String()), Version)
	}
	return nil
}

var integer = regexp.MustCompile(`^-?[0-9]+$`)

// shorten cuts a number that is longer than any version will ever be.
func shorten(digits string) string {
	if len(digits) <= 20 {
		return digits
	}
	return digits[:20] + "..."
}

func parseCookie(v any) (uint64, error) {
	if n, ok := v.(json.Number); ok {
		if c, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
			return c, nil
		}
	}
	return 0, at("cookie", "want an integer of 1 to 2^64-1 without fraction or exponent, got %s", describe(v))
}

func parseTime(v any) (time.Time, error) {
	s, ok := v.(string)
	if ok {
		// Formatting it again excludes what time.Parse tolerates: a comma for
		// the point, more than nine digits, trailing zeros, another zone.
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil && formatTime(t) == s {
			return t.UTC(), nil
		}
	}
	return time.Time{}, at("capturedAt",
		"want a time such as 2006-01-02T15:04:05.999999999Z (RFC 3339, UTC, no trailing zeros), got %s", describe(v))
}

func parseNeighbors(v any) ([]Entry, error) {
	list, ok := v.(array)
	if !ok {
		return nil, at("neighbors", "want an array, got %s", describe(v))
	}
	if len(list) > MaxNeighbors {
		return nil, at("neighbors", "too large: %d entries, at most %d", len(list), MaxNeighbors)
	}
	entries := make([]Entry, 0, len(list))
	for i, v := range list {
		e, err := parseEntry("neighbors["+strconv.Itoa(i)+"]", v)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseEntry(path string, v any) (Entry, error) {
	o, ok := v.(object)
	if !ok {
		return Entry{}, at(path, "want an object, got %s", describe(v))
	}
	if err := o.exactly(path, "dst", "dev", "lladdr", "state", "source"); err != nil {
		return Entry{}, err
	}
	if !isPermanent(o["state"]) {
		return Entry{}, at(path+".state", "want exactly [%q], got %s", StatePermanent, describe(o["state"]))
	}
	dst, err := parseDst(path+".dst", o["dst"])
	if err != nil {
		return Entry{}, err
	}
	dev, ok := o["dev"].(string)
	if !ok {
		return Entry{}, at(path+".dev", "want a string, got %s", describe(o["dev"]))
	}
	lladdr, ok := o["lladdr"].(string)
	if !ok {
		return Entry{}, at(path+".lladdr", "want a string, got %s", describe(o["lladdr"]))
	}
	source, ok := o["source"].(string)
	if !ok {
		return Entry{}, at(path+".source", "want a string, got %s", describe(o["source"]))
	}
	return Entry{Dst: dst, Dev: dev, LLAddr: HardwareAddr(lladdr), Source: Source(source)}, nil
}

func isPermanent(v any) bool {
	states, ok := v.(array)
	return ok && slices.Equal(states, array{StatePermanent})
}

func parseDst(path string, v any) (netip.Addr, error) {
	s, ok := v.(string)
	if !ok {
		return netip.Addr{}, at(path, "want a string, got %s", describe(v))
	}
	// netip's own error repeats its input, however long, so it is not wrapped.
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, at(path, "want an IP address, got %s", quote(s))
	}
	if a.String() != s {
		return netip.Addr{}, at(path, "want the canonical form %s (RFC 5952), got %s", quote(a.String()), quote(s))
	}
	return a, nil
}
