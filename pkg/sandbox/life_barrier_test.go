// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/record"
)

func TestManyStartingSandboxesShareTheQuestions(t *testing.T) {
	tests := []struct {
		name    string
		leads   bool
		waiting int32
		pause   time.Duration
		want    time.Duration
	}{
		{"one alone asks as often as it likes", false, 1, time.Millisecond, time.Millisecond},
		{"ten ask a tenth as often each", false, 10, time.Millisecond, 10 * time.Millisecond},
		{"but never so seldom that the runtime is there first", false, 1000, 5 * time.Millisecond, maxPause},
		{"a pause that is longer for other reasons stays", false, 1000, 100 * time.Millisecond, 100 * time.Millisecond},
		{"who is told by the result's file asks less", true, 1, time.Millisecond, maxPause},
		{"and many still less", true, 20, time.Millisecond, 4 * maxPause},
		{"but not never", true, 1000, time.Millisecond, maxRelaxed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := &life{engine: &Engine{results: newResults()}}
			l.engine.results.leads.Store(test.leads)
			l.engine.waiting.Store(test.waiting)
			if got := l.share(test.pause); got != test.want {
				t.Errorf("pause of %s, want %s", got, test.want)
			}
		})
	}
}

func TestEventsBringAQuestionForwardAndNeverPutItOff(t *testing.T) {
	a := newAlarm(time.Hour)
	defer a.stop()
	due := a.set
	a.advance(2 * time.Hour)
	if a.set != due {
		t.Errorf("put off from %s to %s", due, a.set)
	}
	a.advance(time.Millisecond)
	select {
	case <-a.timer.C:
	case <-t.Context().Done():
	}
	if !a.set.Before(due) {
		t.Errorf("not brought forward from %s", due)
	}
	a.set = time.Time{} // asked, and not answered yet
	a.advance(0)
	if !a.set.IsZero() {
		t.Error("asked again before there was an answer")
	}
}

func TestABusyStoreIsWaitedForAndNRIIsNot(t *testing.T) {
	n := newNode(t)
	n.store.hang = true
	pod := n.newPod("runsc", typeGVisor).listed().cni()
	patience := func() time.Duration {
		n.store.mu.Lock()
		defer n.store.mu.Unlock()
		return n.store.given
	}
	n.eventually("a question to wait for its answer", func() bool { return patience() > 0 })
	if got := patience(); got < 5*time.Second {
		t.Errorf("a question is given up after %s; containerd was seen to take longer where everything starts at once", got)
	}
	n.started(identify(pod.rec))
	if pod.permanent() == "" {
		t.Error("NRI's word that CNI has finished had to wait for the store's answer")
	}
}

func TestAPinThatTookLongProvesLess(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{
		time.Millisecond: minMargin, longWait - 1: minMargin, longWait: longWait, time.Second: time.Second,
	} {
		if got := (&life{waited: waited}).leastMargin(); got != want {
			t.Errorf("a pin that waited for %s needs a margin of %s, want %s", waited, got, want)
		}
	}
	for _, c := range []struct {
		reading, writing time.Duration
		entries          int
		want             time.Duration
	}{
		{3 * time.Second, time.Second, 2, 2 * time.Second}, {time.Second, 3 * time.Second, 2, 3 * time.Second},
		{time.Millisecond, time.Second, 1, 2 * time.Second}, {0, time.Second, 0, 2 * time.Second},
	} {
		if got := lockWait(c.reading, c.writing, c.entries); got != c.want {
			t.Errorf("%s to read and %s to write %d: waited for %s, want %s", c.reading, c.writing, c.entries, got, c.want)
		}
	}
	for margin, want := range map[time.Duration]record.Verdict{time.Second: record.Unproven, 3 * time.Second: record.InTime} {
		t.Run(margin.String(), func(t *testing.T) {
			n := newNode(t)
			n.newPod("runsc", typeGVisor).listed().cni().ready()
			n.awaitPinned()
			s, _ := n.engine.find(podID)
			now := time.Now()
			l := &life{engine: n.engine, sandbox: s, ackedAt: now, waited: 2 * time.Second, announced: true}
			l.decide(now.Add(margin))
			if got := s.record().Timing.Verdict; got != want {
				t.Errorf("verdict %s, want %s", got, want)
			}
		})
	}
}
