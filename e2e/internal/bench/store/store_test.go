// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
)

// TestMain runs the tests in an enclosure.
func TestMain(m *testing.M) { os.Exit(rig.Main(nil, m.Run)) }

// Each way is checked for where it leads while it is measured; here it is seen that all were gone, and what they asked for.
func TestEveryWayLeadsToTheOwner(t *testing.T) {
	result, err := run(t.Context(), bench.Env{Progress: io.Discard}, plan{sizes: []int{10, 60}, rounds: 2, share: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(ways()); len(result.Rows) != want {
		t.Errorf("%d rows, want %d", len(result.Rows), want)
	}
	bytes := func(row, figure string) float64 {
		t.Helper()
		r, err := result.Row(row)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Values {
			if v.Name == figure && r.Latency.N == 2 && v.Value > 0 {
				return v.Value
			}
		}
		t.Fatalf("row %s has been gone %d times and has no %s: %v", row, r.Latency.N, figure, r.Values)
		return 0
	}
	// How much a question and its answer are does not depend on the machine.
	if few, many := bytes("10: "+oursName, "asked"), bytes("60: "+oursName, "asked"); many > 2*few {
		t.Errorf("a question has %.0f bytes with 60 sandboxes and %.0f with 10", many, few)
	}
	if ours, all := bytes("60: "+oursName, "answered"), bytes("60: "+everythingName, "answered"); ours > all/20 {
		t.Errorf("neighpin's answer has %.0f bytes, that with everything %.0f", ours, all)
	}
	if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "already") {
		t.Errorf("containerd's events told of the pod in time: %s", notes)
	}
}

// A way that leads elsewhere must not be taken for a quick one.
func TestAWayThatLeadsElsewhereIsAnError(t *testing.T) {
	w := &world{client: &client{traffic: &traffic{}}, containerd: os.Getpid(), new: newSandbox()}
	for name, id := range map[string]string{"nowhere": "", "to another": newSandbox().id} {
		s := series{way: way{name: name, find: func(context.Context, *world) (string, error) { return id, nil }}}
		if err := w.try(t.Context(), &s); !errors.Is(err, errWrong) || len(s.took) != 0 {
			t.Errorf("a way that leads %s: %v, and counted %d times", name, err, len(s.took))
		}
	}
}
