// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// A pod with NET_ADMIN can make its link resolve addresses, or not, some ten times in
// a second and for ever, and each is a change.
func TestAPodThatChangesWithoutEndDoesNotFillTheLog(t *testing.T) {
	log, said := logtest.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	r := New(log)
	restless, other := record.Record{ID: "a", Name: "restless"}, record.Record{ID: "b", Name: "other"}
	change := []record.Change{{Dst: netip.MustParseAddr("10.88.0.1"), Dev: "eth0", Reason: "NoARP"}}
	for range 1000 {
		r.Report(record.Event{Kind: record.KindWithdrawn, Record: restless, Changes: change})
		r.Report(record.Event{Kind: record.KindRepinned, Record: restless})
	}
	if n := len(said.AllEntries()); n < 2 || n > chatter+2 {
		t.Errorf("%d lines about one pod, want some %d", n, chatter)
	}
	if warned := slices.DeleteFunc(said.AllEntries(), func(e *logrus.Entry) bool { return !strings.Contains(e.Message, "without end") }); len(warned) != 1 {
		t.Errorf("that some are left out is said %d times", len(warned))
	}
	// Neither another pod nor what is decisive about this one is left out.
	before := len(said.AllEntries())
	r.Report(record.Event{Kind: record.KindWithdrawn, Record: other, Changes: change})
	r.Report(record.Event{Kind: record.KindTiming, Record: restless})
	r.Report(record.Event{Kind: record.KindRefused, Record: restless})
	if n := len(said.AllEntries()) - before; n != 3 {
		t.Errorf("%d lines, want 3", n)
	}
	// Nothing is remembered of pods that are gone.
	r.Report(record.Event{Kind: record.KindReleased, Record: restless})
	r.Report(record.Event{Kind: record.KindReleased, Record: other})
	if len(r.told) != 0 {
		t.Errorf("remembered: %v", r.told)
	}
}

// One line per pod at info says how its start went; whatever a pod is called, it is one line.
func TestAPodsStartIsOneLineThatNoNameCanForge(t *testing.T) {
	rec := record.Record{
		ID: "5a5a", Namespace: "shop", Name: "web\nlevel=info msg=\"all is well\"\x1b[2J\u2028", Handler: "runsc",
		Neighbors: []neighbor.Neighbor{{Dst: netip.MustParseAddr("10.88.0.1"), LLAddr: "02:00:00:00:00:01", Dev: "eth0", Source: neighbor.SourcePeer}},
		Timing:    record.Timing{Verdict: record.InTime, MarginMs: 61.5},
	}
	for name, format := range map[string]logrus.Formatter{"text": &logrus.TextFormatter{FullTimestamp: true}, "json": &logrus.JSONFormatter{}} {
		var out strings.Builder
		log := logrus.New()
		log.SetOutput(&out)
		log.SetFormatter(format)
		r := New(log)
		r.Report(record.Event{Kind: record.KindPinned, Record: rec})
		r.Report(record.Event{Kind: record.KindTiming, Record: rec})
		line := out.String()
		if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\x1b\u2028") {
			t.Errorf("%s: %q", name, line)
		}
		for _, want := range []string{"shop/web", "5a5a", "10.88.0.1 lladdr 02:00:00:00:00:01 dev eth0", "peer", "inTime", "61.5", "info"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: no %s in %s", name, want, line)
			}
		}
	}
}

// Sandboxes come and go for ever, and not all of them say so.
func TestWhatWasToldOfSandboxesThatAreGoneIsForgotten(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	r := New(log)
	for i := range 10000 {
		r.Report(record.Event{Kind: record.KindRepinned, Record: record.Record{ID: strconv.Itoa(i)}})
		if i%1000 == 999 { // as if a while had passed
			for id, told := range r.told {
				told.at = told.at.Add(-chatter * chatterPause)
				r.told[id] = told
			}
		}
	}
	if n := len(r.told); n > 3000 {
		t.Errorf("of %d sandboxes it is known what was told of them", n)
	}
}
