// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// eventually waits until check is content with what neighpin says about the pod, and says how long that took.
func (r *rowRun) eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	err := await.Within(t.Context(), patience, what, func() (err error) {
		if r.sandbox, err = r.d.Sandbox(t.Context(), r.pod); err != nil {
			return err
		}
		return check()
	})
	if err != nil {
		t.Fatalf("%v\nthe status says %+v", err, r.sandbox)
	}
	return time.Since(begin)
}

// outdated is what the status says of a copy.
type outdated struct{ copied, lladdr, reason string }

// stale says whether exactly these copies are reported as not true any more.
func (r *rowRun) stale(want map[string]outdated) error {
	got := map[string]outdated{}
	for _, s := range r.sandbox.Stale {
		got[s.Dst] = outdated{s.Copied, s.LLAddr, s.Reason}
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("stale %+v, want %v", r.sandbox.Stale, want)
	}
	return nil
}

// turnsStale waits until the copies of both gateways are reported so.
func (r *rowRun) turnsStale(t *testing.T, want outdated) {
	t.Helper()
	took := r.eventually(t, "the copy to be reported as stale", func() error { return r.stale(both(want)) })
	t.Logf("stale after %s: %+v", took, r.sandbox.Stale)
}

// follows waits until both gateways, whose address was the old one, are pinned to the new one and reached; a copy that gVisor has cannot
// follow, and is reported.
func (r *rowRun) follows(t *testing.T, old string, now truth) {
	t.Helper()
	if r.gvisor {
		r.turnsStale(t, outdated{copied: old, lladdr: now.lladdr})
		return
	}
	took := r.eventually(t, "the pin to follow", func() error { return r.pins(t, both(now)) })
	t.Logf("repaired after %s", took)
	r.reaches(t, node.Targets()...)
}

// pins says whether the kernel's table of the pod has exactly these permanent entries, by neighpin's record and by the kernel.
func (r *rowRun) pins(t *testing.T, want map[string]truth) error {
	t.Helper()
	recorded, plain := map[string]truth{}, map[string]string{}
	for _, n := range r.sandbox.Neighbors {
		recorded[n.Dst] = truth{n.LLAddr, n.Source}
	}
	for dst, truth := range want {
		plain[dst] = truth.lladdr
	}
	if !reflect.DeepEqual(recorded, want) {
		return fmt.Errorf("recorded %+v, want %v", r.sandbox.Neighbors, want)
	}
	if used := r.used(t); !reflect.DeepEqual(used, plain) {
		return fmt.Errorf("the kernel has %v, want %v", used, plain)
	}
	return nil
}

// logged waits until the daemon's log has a line about the pod with these words.
func (r *rowRun) logged(t *testing.T, words ...string) {
	t.Helper()
	err := await.Within(t.Context(), patience, fmt.Sprintf("the log to say %q", words), func() error {
		log, err := r.d.Log()
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			missing := func(word string) bool { return !strings.Contains(line, word) }
			if !missing(r.pod.ID) && !slices.ContainsFunc(words, missing) {
				return nil
			}
		}
		return errors.New("no line does")
	})
	if err != nil {
		t.Error(err)
	}
}

// The gateway's address moves from the bridge to another host on the segment, and comes back.
func TestRowBridgeVIP(t *testing.T) {
	var other station
	spec := rowSpec{name: "bridge", before: func(t *testing.T, _ *rowRun) {
		makeBridge(t, segmentPrefixes...)
		other = join(t, "router0")
		other.route(t)
	}}
	row(t, spec, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		want := both(truth{mac, "port"})
		r.pinned(t, want)
		r.reaches(t, node.Targets()...)

		release(t, datapath.SegmentLink, segmentPrefixes...)
		other.hold(segmentPrefixes...)
		if r.gvisor {
			r.turnsStale(t, outdated{copied: mac, reason: "RouterBeyondBridge"})
			r.logged(t, "holds a copy", segmentGateways[0], "RouterBeyondBridge")
		} else {
			took := r.eventually(t, "the pin to be withdrawn", func() error { return r.pins(t, map[string]truth{}) })
			t.Logf("withdrawn after %s: skipped %+v", took, r.sandbox.Skipped)
			r.skipped(t, both("RouterBeyondBridge"))
			r.logged(t, "withdrawn", segmentGateways[0], "RouterBeyondBridge")
			r.reaches(t, node.Targets()...)
		}
		late, err := r.pod.Run(t.Context(), node.ContainerSpec{Name: "late"})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.annotated(t, late); len(got) != 0 {
			t.Errorf("a container that comes now is annotated with %v, want nothing", got)
		}

		other.release(segmentPrefixes...)
		hold(t, datapath.SegmentLink, segmentPrefixes...)
		if r.gvisor {
			took := r.eventually(t, "the copy to be true again", func() error { return r.stale(map[string]outdated{}) })
			t.Logf("true again after %s", took)
			r.logged(t, "true again", segmentGateways[0])
		} else {
			took := r.eventually(t, "the pin to be back", func() error { return r.pins(t, want) })
			t.Logf("pinned again after %s", took)
		}
		r.skipped(t, map[string]string{})
		r.reaches(t, node.Targets()...)
	})
}

// Where addresses may be learned, the pin follows to the other host and, when the host knows better again, back.
func TestRowBridgeVIPLearned(t *testing.T) {
	var other station
	spec := learnedRow("bridge", func(t *testing.T) {
		makeBridge(t, segmentPrefixes...)
		other = join(t, "router0")
		other.route(t)
	})
	row(t, spec, func(t *testing.T, r *rowRun) {
		mac := r.hostEnd(t)
		r.pinned(t, both(truth{mac, "port"}))

		release(t, datapath.SegmentLink, segmentPrefixes...)
		other.hold(segmentPrefixes...)
		if r.gvisor {
			r.turnsStale(t, outdated{copied: mac, reason: "RouterBeyondBridge"})
		} else {
			took := r.eventually(t, "the other host to be learned", func() error {
				return r.pins(t, both(truth{other.mac(), "learned"}))
			})
			t.Logf("learned after %s", took)
			r.reaches(t, node.Targets()...)
		}

		other.release(segmentPrefixes...)
		hold(t, datapath.SegmentLink, segmentPrefixes...)
		if r.gvisor {
			r.eventually(t, "the copy to be true again", func() error { return r.stale(map[string]outdated{}) })
		} else {
			took := r.eventually(t, "the pin to be back", func() error { return r.pins(t, both(truth{mac, "port"})) })
			t.Logf("pinned again after %s", took)
		}
		r.reaches(t, node.Targets()...)
	})
}
