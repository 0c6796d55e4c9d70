// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// FuzzParse holds Parse to its promises on any text: either a value that Marshal
// writes back with the same meaning, or an error that is fit for a log.
func FuzzParse(f *testing.F) {
	for _, text := range accepted {
		f.Add(text)
	}
	for _, group := range []map[string]refusal{refused, beyondSchema} {
		for _, c := range group {
			if len(c.text) < 4<<10 {
				f.Add(c.text)
			}
		}
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := annotation.Parse(text)
		if err != nil {
			if a != nil {
				t.Fatalf("both a value and an error: %v, %v", a, err)
			}
			checkErrorText(t, err)
			return
		}
		if len(a.Neighbors) > annotation.MaxNeighbors {
			t.Fatalf("%d neighbors", len(a.Neighbors))
		}
		canonical, err := a.Marshal()
		if err != nil {
			t.Fatalf("marshal what was parsed: %v", err)
		}
		b, err := annotation.Parse(canonical)
		if err != nil {
			t.Fatalf("parse what was marshalled: %v", err)
		}
		if !a.SameNeighbors(b) || !a.CapturedAt.Equal(b.CapturedAt) {
			t.Fatalf("round trip changed the meaning (-before +after):\n%s", cmp.Diff(a, b, equal))
		}
		if again := mustMarshal(t, b); again != canonical {
			t.Fatalf("two canonical forms:\n%s\n%s", canonical, again)
		}
		if err := schema.Validate(decode(t, text)); err != nil {
			t.Fatalf("Parse accepts what the schema refuses: %v", err)
		}
	})
}

// FuzzMarshal holds Marshal to: whatever it writes, Parse reads back.
func FuzzMarshal(f *testing.F) {
	f.Add(uint64(4711), int64(0), []byte{10, 88, 0, 1}, "eth0", "02:00:00:00:00:01", "peer")
	f.Add(uint64(1), int64(1<<62), []byte{15: 1}, "a\"b\\c", "", "existing")
	f.Add(uint64(0), int64(-1), []byte{0xfe, 0x80, 15: 1}, "\u2028", "02-00-00-00-00-01", "")
	f.Fuzz(func(t *testing.T, cookie uint64, nanos int64, dst []byte, dev, lladdr, source string) {
		e := annotation.Entry{Dev: dev, LLAddr: annotation.HardwareAddr(lladdr), Source: annotation.Source(source)}
		e.Dst, _ = netip.AddrFromSlice(dst)
		a := &annotation.Annotation{Cookie: cookie, CapturedAt: time.Unix(0, nanos), Neighbors: []annotation.Entry{e}}
		text, err := a.Marshal()
		if err != nil {
			checkErrorText(t, err)
			return
		}
		b, err := annotation.Parse(text)
		if err != nil {
			t.Fatalf("Parse refuses what Marshal wrote: %v", err)
		}
		if diff := cmp.Diff(a, b, equal); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := mustMarshal(b, dualStack())
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := annotation.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshal(b *testing.B) {
	a := dualStack()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
}
