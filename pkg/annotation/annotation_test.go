// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// equal compares what annotations mean: addresses and instants by value.
var equal = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
}

func TestMarshalWritesOneLineOrderedByDevAndDst(t *testing.T) {
	a := dualStack()
	slices.Reverse(a.Neighbors)
	got, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00.123456789Z","neighbors":[` +
		`{"dst":"10.88.0.1","dev":"eth0","lladdr":"0a:58:0a:58:00:01","state":["PERMANENT"],"source":"peer"},` +
		`{"dst":"fe80::1","dev":"eth0","lladdr":"0a:58:0a:58:00:01","state":["PERMANENT"],"source":"peer"},` +
		`{"dst":"fe80::1","dev":"net1","lladdr":"02:00:00:00:00:01","state":["PERMANENT"],"source":"existing"}]}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Marshal (-want +got):\n%s", diff)
	}
}

func TestMarshalIsTheSameInAnyTimeZone(t *testing.T) {
	a, b := dualStack(), dualStack()
	b.CapturedAt = b.CapturedAt.In(time.FixedZone("east", 5*3600+30*60))
	if x, y := mustMarshal(t, a), mustMarshal(t, b); x != y {
		t.Errorf("one instant, two texts:\n%s\n%s", x, y)
	}
}

func TestWhatMarshalWritesParseReads(t *testing.T) {
	full := &annotation.Annotation{Cookie: 1<<64 - 1, CapturedAt: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)}
	for i := range annotation.MaxNeighbors {
		full.Neighbors = append(full.Neighbors, annotation.Entry{
			// The longest text that each field can have.
			Dst:    netip.AddrFrom16([16]byte{0xfd, 0xff, 15: byte(i), 2: 0xff, 4: 0xff, 6: 0xff, 8: 0xff, 10: 0xff, 12: 0xff, 14: 0xff}),
			Dev:    strings.Repeat(`"`, 15),
			LLAddr: "fe:01:02:03:04:05",
			Source: annotation.SourceExisting,
		})
	}
	for name, a := range map[string]*annotation.Annotation{
		"dual stack, two links":        dualStack(),
		"nothing to pin":               {Cookie: 1, CapturedAt: time.Unix(0, 0), Neighbors: []annotation.Entry{}},
		"as many entries as there may": full,
	} {
		t.Run(name, func(t *testing.T) {
			text := mustMarshal(t, a)
			if len(text) > annotation.MaxBytes {
				t.Fatalf("Marshal wrote %d bytes, more than Parse reads", len(text))
			}
			got, err := annotation.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a, got, equal); diff != "" {
				t.Errorf("Parse(Marshal(a)) (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMarshalOfNilNeighborsWritesAnEmptyList(t *testing.T) {
	text := mustMarshal(t, &annotation.Annotation{Cookie: 1, CapturedAt: time.Unix(0, 0)})
	if !strings.HasSuffix(text, `"neighbors":[]}`) {
		t.Errorf("got %s", text)
	}
}

func TestMarshalRefusesWhatParseWouldRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*annotation.Annotation)
		field  string
	}{
		"cookie not set":       {func(a *annotation.Annotation) { a.Cookie = 0 }, "cookie"},
		"time not set":         {func(a *annotation.Annotation) { a.CapturedAt = time.Time{} }, "capturedAt"},
		"year of five digits":  {func(a *annotation.Annotation) { a.CapturedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "capturedAt"},
		"dst not set":          {func(a *annotation.Annotation) { a.Neighbors[1].Dst = netip.Addr{} }, "neighbors[1].dst"},
		"dst with a zone":      {func(a *annotation.Annotation) { a.Neighbors[1].Dst = a.Neighbors[1].Dst.WithZone("eth0") }, "neighbors[1].dst"},
		"dst IPv4-mapped":      {func(a *annotation.Annotation) { a.Neighbors[0].Dst = netip.MustParseAddr("::ffff:10.0.0.1") }, "neighbors[0].dst"},
		"dev of 16 bytes":      {func(a *annotation.Annotation) { a.Neighbors[2].Dev = "abcdefghijklmnop" }, "neighbors[2].dev"},
		"dev that is no UTF-8": {func(a *annotation.Annotation) { a.Neighbors[2].Dev = "eth\xff" }, "neighbors[2].dev"},
		"dev with a newline":   {func(a *annotation.Annotation) { a.Neighbors[2].Dev = "eth0\nx" }, "neighbors[2].dev"},
		"lladdr zero":          {func(a *annotation.Annotation) { a.Neighbors[0].LLAddr = "00:00:00:00:00:00" }, "neighbors[0].lladdr"},
		"lladdr of a group":    {func(a *annotation.Annotation) { a.Neighbors[0].LLAddr = "01:00:5e:00:00:01" }, "neighbors[0].lladdr"},
		"lladdr not set":       {func(a *annotation.Annotation) { a.Neighbors[0].LLAddr = "" }, "neighbors[0].lladdr"},
		"lladdr in upper case": {func(a *annotation.Annotation) { a.Neighbors[0].LLAddr = "0A:00:00:00:00:01" }, "neighbors[0].lladdr"},
		"source unknown":       {func(a *annotation.Annotation) { a.Neighbors[0].Source = "rumour" }, "neighbors[0].source"},
		"one dst on one dev twice": {func(a *annotation.Annotation) {
			a.Neighbors = append(a.Neighbors, a.Neighbors[0])
		}, "neighbors[3]"},
		"one entry too many": {func(a *annotation.Annotation) {
			a.Neighbors = make([]annotation.Entry, annotation.MaxNeighbors+1)
		}, "neighbors"},
	} {
		t.Run(name, func(t *testing.T) {
			a := dualStack()
			c.change(a)
			text, err := a.Marshal()
			var e *annotation.Error
			if !errors.As(err, &e) {
				t.Fatalf("Marshal = %q, %v; want an *Error", text, err)
			}
			if e.Op != "marshal" || e.Field != c.field {
				t.Errorf("error names %s of %q, want marshal of %q: %v", e.Op, e.Field, c.field, err)
			}
		})
	}
}

func TestNeighborsAreTheSameWhateverTheirOrderTimeAndSource(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*annotation.Annotation)
		want   bool
	}{
		"nothing":        {func(*annotation.Annotation) {}, true},
		"order":          {func(a *annotation.Annotation) { slices.Reverse(a.Neighbors) }, true},
		"time":           {func(a *annotation.Annotation) { a.CapturedAt = a.CapturedAt.Add(time.Hour) }, true},
		"source":         {func(a *annotation.Annotation) { a.Neighbors[0].Source = annotation.SourcePort }, true},
		"cookie":         {func(a *annotation.Annotation) { a.Cookie++ }, false},
		"lladdr":         {func(a *annotation.Annotation) { a.Neighbors[0].LLAddr = "02:00:00:00:00:01" }, false},
		"dst":            {func(a *annotation.Annotation) { a.Neighbors[0].Dst = a.Neighbors[0].Dst.Next() }, false},
		"dev":            {func(a *annotation.Annotation) { a.Neighbors[0].Dev = "eth1" }, false},
		"one entry less": {func(a *annotation.Annotation) { a.Neighbors = a.Neighbors[1:] }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := dualStack(), dualStack()
			c.change(b)
			if got := a.SameNeighbors(b); got != c.want {
				t.Errorf("after a change of %s: a.SameNeighbors(b) = %v, want %v", name, got, c.want)
			}
			if got := b.SameNeighbors(a); got != c.want {
				t.Errorf("after a change of %s: b.SameNeighbors(a) = %v, want %v", name, got, c.want)
			}
		})
	}
	var none *annotation.Annotation
	if none.SameNeighbors(dualStack()) || dualStack().SameNeighbors(none) || !none.SameNeighbors(nil) {
		t.Error("a missing annotation must be the same as a missing one only")
	}
}

func TestMethodsLeaveTheAnnotationAlone(t *testing.T) {
	a := dualStack()
	slices.Reverse(a.Neighbors)
	before := slices.Clone(a.Neighbors)
	mustMarshal(t, a)
	a.SameNeighbors(dualStack())
	if !slices.Equal(before, a.Neighbors) {
		t.Errorf("the neighbors were reordered: %v", a.Neighbors)
	}
}

// dualStack returns a valid annotation, in the order of the wire.
func dualStack() *annotation.Annotation {
	const mac = "0a:58:0a:58:00:01"
	return &annotation.Annotation{
		Cookie:     4711,
		CapturedAt: time.Date(2026, 11, 22, 0, 18, 0, 123456789, time.UTC),
		Neighbors: []annotation.Entry{
			{Dst: netip.MustParseAddr("10.88.0.1"), Dev: "eth0", LLAddr: mac, Source: annotation.SourcePeer},
			{Dst: netip.MustParseAddr("fe80::1"), Dev: "eth0", LLAddr: mac, Source: annotation.SourcePeer},
			{Dst: netip.MustParseAddr("fe80::1"), Dev: "net1", LLAddr: "02:00:00:00:00:01", Source: annotation.SourceExisting},
		},
	}
}

func mustMarshal(t testing.TB, a *annotation.Annotation) string {
	t.Helper()
	text, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
