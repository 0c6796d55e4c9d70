// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// Packed is a record in few bytes, for a sandbox that rests: a Record with all that it
// points to takes more than two kilobytes, and a node has them all in memory. What
// the sandbox's Identity says is not repeated. Empty stands for none.
type Packed string

// Pack packs a record, or returns none: of what packed has no form for, the record
// itself has to be kept. What comes out is compared with what went in, so that nothing
// is lost of a record that has something which is unknown here. What only this process's
// clock knows of a time is not kept, as files do not keep it.
func Pack(id Identity, rec Record) Packed {
	rec = plain(rec)
	var w packer
	w.record(rec)
	p := Packed(w)
	if !reflect.DeepEqual(p.Unpack(id), rec) {
		return ""
	}
	return p
}

// plain is a record without what only this process's clock knows.
func plain(rec Record) Record {
	rec.CapturedAt, rec.Timing.PinnedAt = rec.CapturedAt.Round(0), rec.Timing.PinnedAt.Round(0)
	if rec.HostState != nil {
		state := *rec.HostState
		state.At = state.At.Round(0)
		rec.HostState = &state
	}
	return rec
}

// Unpack returns the record.
func (p Packed) Unpack(id Identity) Record {
	u := unpacker{string(p)}
	rec := Record{
		ID: id.ID, Name: id.Name, Namespace: id.Namespace, UID: id.UID, Handler: id.Handler, Runtime: id.Runtime,
		NetNS: NetNS{Path: id.NetNSPath},
	}
	u.record(&rec)
	return rec
}

// Concerns is what the record's would be: what it says of gateways is all that an event
// is compared with, and so all that is unpacked.
func (p Packed) Concerns(ev neighbor.Event) bool { return p.gateways().Concerns(ev) }

func (p Packed) gateways() (rec Record) {
	u := unpacker{string(p)}
	u.gateways(&rec)
	return rec
}

// words are the texts that most records have; their places are the format, which no
// file has.
func words() [23]string { // an array: nothing is allocated
	return [...]string{
		"", string(Starting), string(Started), string(Pending), string(Nothing), string(Unproven), string(Late), string(InTime),
		string(neighbor.SourcePeer), string(neighbor.SourcePort), string(neighbor.SourceHost), string(neighbor.SourceExisting),
		string(neighbor.SourceLearned), string(KindFound), string(KindPinned), string(KindTiming), string(KindAdopted),
		string(KindRepinned), string(KindHostState), string(KindFailed), "eth0", "new", "by another process, from the record",
	}
}

// literal precedes a text that is not among the words.
const literal = 255

// packer and unpacker go through a record in the same order.
type packer []byte

func (w *packer) number(n int64)   { *w = binary.AppendVarint(*w, n) }
func (w *packer) float(f float64)  { *w = binary.LittleEndian.AppendUint64(*w, math.Float64bits(f)) }
func (w *packer) flags(fs ...bool) { *w = append(*w, bits(fs)) }
func (w *packer) length(n int, ok bool) {
	if !ok { // nil, which JSON tells from empty
		n = -1
	}
	w.number(int64(n))
}

func bits(fs []bool) (b byte) {
	for i, f := range fs {
		if f {
			b |= 1 << i
		}
	}
	return b
}

func (w *packer) text(s string) {
	for i, word := range words() {
		if word == s {
			*w = append(*w, byte(i))
			return
		}
	}
	*w = append(*w, literal)
	w.number(int64(len(s)))
	*w = append(*w, s...)
}

func (w *packer) time(t time.Time) {
	if t.IsZero() {
		w.number(0)
		return
	}
	w.number(t.UnixNano())
}

func (w *packer) addr(a netip.Addr) {
	data := a.AsSlice()
	w.number(int64(len(data)))
	*w = append(*w, data...)
}

// lladdr writes six bytes where it can.
func (w *packer) lladdr(a neighbor.HardwareAddr) {
	raw := make([]byte, 0, 6)
	for i := 0; len(a) == 17 && i < 17; i += 3 {
		if b, err := strconv.ParseUint(string(a[i:i+2]), 16, 8); err == nil {
			raw = append(raw, byte(b))
		}
	}
	if len(raw) != 6 || hardware(string(raw)) != a {
		raw = nil
	}
	w.flags(raw != nil)
	if raw == nil {
		w.text(string(a))
	}
	*w = append(*w, raw...)
}

func hardware(raw string) neighbor.HardwareAddr {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 17)
	for i := range len(raw) {
		if i > 0 {
			text = append(text, ':')
		}
		text = append(text, digits[raw[i]>>4], digits[raw[i]&15])
	}
	return neighbor.HardwareAddr(text)
}

func (w *packer) record(rec Record) {
	w.length(len(rec.Neighbors), rec.Neighbors != nil)
	for _, n := range rec.Neighbors {
		w.addr(n.Dst)
		w.text(n.Dev)
		w.lladdr(n.LLAddr)
		w.text(string(n.Source))
	}
	w.length(len(rec.Skipped), rec.Skipped != nil)
	for _, s := range rec.Skipped {
		w.addr(s.Dst)
		w.text(s.Dev)
		w.text(string(s.Reason))
		w.text(s.Message)
	}
	w.number(int64(rec.Version))
	w.number(int64(rec.NetNS.Cookie))
	w.text(string(rec.Phase))
	w.length(len(rec.Ends), rec.Ends != nil)
	for dev, end := range rec.Ends {
		w.text(dev)
		w.number(int64(end))
	}
	w.length(len(rec.Addresses), rec.Addresses != nil)
	for _, a := range rec.Addresses {
		w.addr(a.Addr)
		w.text(a.Dev)
		w.lladdr(a.LLAddr)
		w.number(int64(a.End))
	}
	w.flags(rec.Taken, rec.Annotated, rec.LiveFile, rec.HostState != nil)
	if rec.HostState != nil {
		w.time(rec.HostState.At)
	}
	w.time(rec.CapturedAt)
	w.text(string(rec.Timing.Verdict))
	w.float(rec.Timing.MarginMs)
	w.float(rec.Timing.ResultToPinMs)
	w.time(rec.Timing.PinnedAt)
	w.number(int64(rec.Repins))
	w.number(int64(rec.Missed))
	w.length(len(rec.History), rec.History != nil)
	for _, m := range rec.History {
		w.number(m.At.UnixMilli())
		w.text(string(m.What))
		w.text(m.Text)
		w.number(int64(m.Times))
	}
}

// unpacker reads what packer wrote, which is never anything else.
type unpacker struct{ left string }

func (u *unpacker) bytes(n int64) string {
	taken := u.left[:n]
	u.left = u.left[n:]
	return taken
}

func (u *unpacker) byte() byte { return u.bytes(1)[0] }

func (u *unpacker) number() int64 {
	var n uint64
	for shift := 0; ; shift += 7 {
		b := u.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int64(n>>1) ^ -int64(n&1) // as binary.AppendVarint has it
		}
	}
}

func (u *unpacker) float() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64([]byte(u.bytes(8))))
}

func (u *unpacker) text() string {
	if i := u.byte(); i != literal {
		return words()[i]
	}
	return u.bytes(u.number())
}

func (u *unpacker) time() time.Time {
	n := u.number()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (u *unpacker) addr() netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(u.bytes(u.number())))
	return a
}

func (u *unpacker) lladdr() neighbor.HardwareAddr {
	if u.byte() == 0 {
		return neighbor.HardwareAddr(u.text())
	}
	return hardware(u.bytes(6))
}

// several reads a list.
func several[T any](u *unpacker, read func() T) []T {
	n := u.number()
	if n < 0 {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		list[i] = read()
	}
	return list
}

func (u *unpacker) gateways(rec *Record) {
	rec.Neighbors = several(u, func() neighbor.Neighbor {
		n := neighbor.Neighbor{Dst: u.addr(), Dev: u.text(), LLAddr: u.lladdr(), Source: neighbor.Source(u.text())}
		n.Family, n.State = neighbor.FamilyOf(n.Dst), []string{annotation.StatePermanent}
		return n
	})
	rec.Skipped = several(u, func() neighbor.Skipped {
		return neighbor.Skipped{Dst: u.addr(), Dev: u.text(), Reason: neighbor.Reason(u.text()), Message: u.text()}
	})
}

func (u *unpacker) record(rec *Record) {
	u.gateways(rec)
	rec.Version = int(u.number())
	rec.NetNS.Cookie = uint64(u.number())
	rec.Phase = Phase(u.text())
	if n := u.number(); n >= 0 {
		rec.Ends = make(map[string]int, n)
		for range n {
			dev := u.text()
			rec.Ends[dev] = int(u.number())
		}
	}
	rec.Addresses = several(u, func() neighbor.Address {
		return neighbor.Address{Addr: u.addr(), Dev: u.text(), LLAddr: u.lladdr(), End: int(u.number())}
	})
	flags := u.byte()
	rec.Taken, rec.Annotated, rec.LiveFile = flags&1 != 0, flags&2 != 0, flags&4 != 0
	if flags&8 != 0 {
		rec.HostState = &HostState{Report: hoststate.Report{Finds: []hoststate.Find{}}, At: u.time()}
	}
	rec.CapturedAt = u.time()
	rec.Timing.Verdict = Verdict(u.text())
	rec.Timing.MarginMs, rec.Timing.ResultToPinMs = u.float(), u.float()
	rec.Timing.PinnedAt = u.time()
	rec.Repins, rec.Missed = int(u.number()), int(u.number())
	rec.History = several(u, func() Moment {
		return Moment{At: time.UnixMilli(u.number()).UTC(), What: Kind(u.text()), Text: u.text(), Times: int(u.number())}
	})
}
