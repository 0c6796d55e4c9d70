// SPDX-License-Identifier: Apache-2.0

package events

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

func gateway(reason neighbor.Reason) record.Change {
	return record.Change{Dst: netip.MustParseAddr("10.1.0.1"), Dev: "eth0", Was: "02:00:00:00:00:01", Reason: reason, Message: "why"}
}

func skipped(reason neighbor.Reason) []neighbor.Skipped {
	return []neighbor.Skipped{{Dst: netip.MustParseAddr("10.1.0.1"), Dev: "eth0", Reason: reason, Message: "why"}}
}

func TestOnlyTroublesOfThePodAreTold(t *testing.T) {
	found := &record.HostState{Report: hoststate.Report{Finds: []hoststate.Find{{
		Kind: hoststate.KindNeighbor, Dst: netip.MustParseAddr("10.1.0.7"), LLAddr: "02:00:00:00:00:09", Dev: "cali1", Removed: true,
	}}}}
	for name, c := range map[string]struct {
		event  record.Event
		reason Reason
		words  string
	}{
		"the copy's truth is gone": {
			record.Event{Kind: record.KindStale, Changes: []record.Change{gateway(neighbor.ReasonPeerGone)}},
			StaleNeighborCopy, "10.1.0.1 on eth0: the runtime copied the address 02:00:00:00:00:01, which is not true any more (PeerGone)",
		},
		"the copy is true again": {record.Event{Kind: record.KindFresh}, "", ""},
		"late": {
			record.Event{Kind: record.KindTiming, Record: record.Record{Timing: record.Timing{Verdict: record.Late}}},
			NeighborNotPinned, "started before its gateways were pinned",
		},
		"in time": {record.Event{Kind: record.KindTiming, Record: record.Record{Timing: record.Timing{Verdict: record.InTime}}}, "", ""},
		"no truth for the gateway": {
			record.Event{Kind: record.KindTiming, Record: record.Record{Timing: record.Timing{Verdict: record.Nothing}, Skipped: skipped(neighbor.ReasonUnsupportedLink)}},
			NeighborNotPinned, "gateway 10.1.0.1 on eth0 is not pinned: UnsupportedLink (why)",
		},
		"nothing to pin": {
			record.Event{Kind: record.KindTiming, Record: record.Record{Timing: record.Timing{Verdict: record.Nothing}, Skipped: skipped(neighbor.ReasonNoARP)}}, "", "",
		},
		"late, and no truth for another": {
			record.Event{Kind: record.KindTiming, Record: record.Record{Timing: record.Timing{Verdict: record.Late}, Skipped: skipped(neighbor.ReasonUnowned)}},
			NeighborNotPinned, "started before its gateways were pinned",
		},
		"several copies": {
			record.Event{Kind: record.KindStale, Changes: []record.Change{gateway(neighbor.ReasonPeerGone), {Dst: netip.MustParseAddr("fd00::1"), Dev: "eth1", Was: "02:aa", Now: "02:bb"}}},
			StaleNeighborCopy, "(PeerGone); gateway fd00::1 on eth1: the runtime copied the address 02:aa, and it is 02:bb now. Nothing reaches",
		},
		"a conflict about a pin": {
			record.Event{Kind: record.KindConflict, Changes: []record.Change{{Dst: netip.MustParseAddr("10.1.0.1"), Dev: "eth0", Was: "02:aa", Claims: []neighbor.HardwareAddr{"02:aa"}}}},
			NeighborConflict, "02:aa answer for it; it stays pinned to 02:aa",
		},
		"withdrawn with a link": {
			record.Event{Kind: record.KindWithdrawn, Changes: []record.Change{{Dst: netip.MustParseAddr("10.9.0.1"), Dev: "eth1", Reason: neighbor.ReasonLinkGone}, gateway(neighbor.ReasonPeerGone)}},
			NeighborNotPinned, "<gateway 10.1.0.1 on eth0 is not pinned any more: PeerGone (why)>",
		},
		"nothing on the host": {record.Event{Kind: record.KindHostState, Found: &record.HostState{}}, "", ""},
		"left on the host": {
			record.Event{Kind: record.KindHostState, Found: &record.HostState{Report: hoststate.Report{Finds: []hoststate.Find{{Kind: hoststate.KindNeighbor, Dev: "cali1"}}}}},
			HostStateFound, "dev cali1 []>",
		},
		"refused by its record": {record.Event{Kind: record.KindRefused, Record: record.Record{Refused: "no truth"}}, SandboxRefused, "<no truth>"},
		"failed":                {record.Event{Kind: record.KindFailed, Err: errors.New("open namespace: no such file")}, NeighborNotPinned, "could not be pinned: open namespace"},
		"withdrawn":             {record.Event{Kind: record.KindWithdrawn, Changes: []record.Change{gateway(neighbor.ReasonPeerGone)}}, NeighborNotPinned, "not pinned any more: PeerGone (why)"},
		"the link ends with its pod": {
			record.Event{Kind: record.KindWithdrawn, Changes: []record.Change{gateway(neighbor.ReasonLinkGone)}}, "", "",
		},
		"a conflict": {
			record.Event{Kind: record.KindConflict, Changes: []record.Change{{Dst: netip.MustParseAddr("10.1.0.1"), Dev: "eth0", Claims: []neighbor.HardwareAddr{"02:aa", "02:bb"}}}},
			NeighborConflict, "02:aa; 02:bb answer for it; it is not pinned",
		},
		"a program insists": {record.Event{Kind: record.KindInsists, Changes: []record.Change{gateway(record.ReasonInsists)}}, NeighborInsists, "keeps putting another entry"},
		"host state":        {record.Event{Kind: record.KindHostState, Found: found}, HostStateFound, "neighbor 10.1.0.7 lladdr 02:00:00:00:00:09 dev cali1 [] (removed)"},
		"the way back cannot be set": {
			record.Event{Kind: record.KindHostState, Record: record.Record{HostState: found}, Err: errors.New("set")}, "", "",
		},
		"refused": {
			record.Event{Kind: record.KindRefused, Err: errors.New("neighpin refuses pod shop/web-1: no truth")},
			SandboxRefused, "neighpin refuses pod shop/web-1: no truth",
		},
		"repaired":            {record.Event{Kind: record.KindRepinned}, "", ""},
		"the disk is full":    {record.Event{Kind: record.KindRecord, Err: errors.New("full")}, "", ""},
		"the store is away":   {record.Event{Kind: record.KindStore, Err: errors.New("away")}, "", ""},
		"nobody is listening": {record.Event{Kind: record.KindHost, Err: errors.New("deaf")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rec := &c.event.Record
			rec.Namespace, rec.Name, rec.UID = "shop", "web-1", "uid"
			got, ok := read(c.event)
			if ok != (c.reason != "") || got.reason != c.reason || !strings.Contains("<"+got.message+">", c.words) {
				t.Errorf("%q %q, want %q %q", got.reason, got.message, c.reason, c.words)
			}
		})
	}
}

// A sandbox by hand has no pod, and what the wrapper reads in a bundle may be anything.
func TestOfPodsThatTheServerCannotKnowNothingIsTold(t *testing.T) {
	for _, p := range []pod{
		{"shop", "web", ""}, {"", "web", "uid"}, {"shop", "", "uid"}, {"../../x", "web", "uid"}, {"shop", "web/../x", "uid"},
		{"shop", "web\n", "uid"}, {"Shop", "web", "uid"}, {"shop", "web", "uid?x=y"}, {strings.Repeat("a", 64), "web", "uid"},
	} {
		event := staleEvent(record.Record{Namespace: p.namespace, Name: p.name, UID: p.uid}, "2")
		if got, ok := read(event); ok {
			t.Errorf("%+v: told %+v", p, got)
		}
	}
	longest := pod{strings.Repeat("a", 63), strings.Repeat("a.b", 84) + "c", strings.Repeat("u", 64)}
	for _, p := range []pod{{"shop", "web.0", "4C3f-7"}, {"0", "0", "0"}, longest} {
		if _, ok := read(staleEvent(record.Record{Namespace: p.namespace, Name: p.name, UID: p.uid}, "2")); !ok {
			t.Errorf("%+v: of a pod it can know, nothing is told either", p)
		}
	}
	for _, p := range []pod{
		{longest.namespace, longest.name + "c", "u"}, {longest.namespace, "web", longest.uid + "u"}, {"shop-", "web", "u"}, {"-shop", "web", "u"},
		{"a.b", "web", "u"}, {"shop", "web-", "u"}, {"shop", ".web", "u"},
	} {
		if _, ok := read(staleEvent(record.Record{Namespace: p.namespace, Name: p.name, UID: p.uid}, "2")); ok {
			t.Errorf("%+v: told", p)
		}
	}
}

// Names of links are the pod's, and errors may quote what it wrote.
func TestMessagesAreOneBoundedLineOfPrintableText(t *testing.T) {
	for _, hostile := range []string{
		"eth0\nNormal Scheduled all is well", "\x1b[2J\x1b]0;owned\a", "\u202egnp.exe", "\xff\xfe", strings.Repeat("ä", 5000), "a\u2028b",
	} {
		event := staleEvent(web(1), "2")
		event.Changes[0].Dev = hostile
		got, ok := read(event)
		if !ok || len(got.message) > 1024 || !utf8.ValidString(got.message) || strings.ContainsAny(got.message, "\n\r\x1b\a\u202e\u2028") {
			t.Errorf("%q: %q", hostile, got.message)
		}
	}
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"a\tb\u2029c\u202ed\xffe\ufffdf", 100, "a b c?d?e?f"},
		{"0123456789", 10, "0123456789"},
		{"0123456789a", 10, "0123456…"},
		{"012345äxyz", 10, "012345…"},
		{"01234567ä", 10, "01234567ä"},
	} {
		if got := clean(c.text, c.limit); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// Of the same pod there may be several, and the API server takes names of 253 bytes.
func TestEachEventHasANameOfItsOwn(t *testing.T) {
	at := time.Now()
	if eventName("web", at) == eventName("web", at.Add(1)) {
		t.Error("two of one name")
	}
	for _, pod := range []string{strings.Repeat("a", 253), strings.Repeat("a.", 126) + "a", strings.Repeat("a-", 126) + "a", strings.Repeat("ab-", 84) + "a"} {
		name := eventName(pod, at)
		if len(name) > 253 || !podName.MatchString(name) || strings.Contains(name, "..") || strings.Contains(name, "-.") {
			t.Errorf("the name %q, of %d bytes", name, len(name))
		}
	}
	if name := eventName("web", at); !strings.HasPrefix(name, "web.") {
		t.Errorf("the name %q", name)
	}
}

func TestTimesAreAsTheAPIServerKeepsThem(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("there", 3600))
	if got := stamp(at).Format(time.RFC3339Nano); got != "2026-01-02T02:04:05Z" {
		t.Errorf("%s", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("eth0\n\xff", 40)
	f.Add(strings.Repeat("€", 20), 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 8 || limit > maxMessage {
			return
		}
		got := clean(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || got != clean(got, limit) {
			t.Errorf("%q: %q", text, got)
		}
	})
}
