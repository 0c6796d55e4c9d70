// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// CNI's ptp, which is also kindnet's shape: every pod's veth has the same two gateways on its host end.
func TestRowPtp(t *testing.T) {
	row(t, rowSpec{name: "default"}, ptpPinned)
}

func ptpPinned(t *testing.T, r *rowRun) {
	t.Helper()
	mac := r.hostEnd(t)
	r.pinned(t, map[string]truth{"10.97.0.1": {mac, "peer"}, "fd97::1": {mac, "peer"}})
	r.skipped(t, map[string]string{})
	r.reaches(t, node.Targets()...)
	r.silent(t, "10.97.0.1", "fd97::1")
}

// Without neighpin the same check of silence fails: both stacks ask.
func TestRowPtpControl(t *testing.T) {
	row(t, rowSpec{name: "default", control: true}, func(t *testing.T, r *rowRun) {
		r.reaches(t, node.Targets()...)
		for _, gateway := range []string{"10.97.0.1", "fd97::1"} {
			if len(r.asked(gateway)) == 0 {
				t.Errorf("nobody asked for %s", gateway)
			}
		}
	})
}
