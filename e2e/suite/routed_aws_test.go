// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// The CNI's own entries are taken as they are.
func TestRowAWS(t *testing.T) {
	row(t, rowSpec{name: "aws-vpc", before: rulesGo}, awsPinned)
}

// rulesGo checks, when the pod is gone, that the CNI has taken its rules away: the row is then as if it had not been.
func rulesGo(t *testing.T, _ *rowRun) {
	t.Helper()
	t.Cleanup(func() {
		for _, family := range []string{"-4", "-6"} {
			out, err := exec.CommandContext(context.Background(), "ip", family, "rule", "show", "pref", "512").CombinedOutput()
			if err != nil || len(out) != 0 {
				t.Errorf("rules are left: %v\n%s", err, out)
			}
		}
	})
}

func awsPinned(t *testing.T, r *rowRun) {
	t.Helper()
	mac := r.hostEnd(t)
	r.pinned(t, map[string]truth{datapath.AWSGateway4: {mac, "existing"}, datapath.AWSGateway6: {mac, "existing"}})
	r.skipped(t, map[string]string{})
	r.reaches(t, node.Beyond()...)
	r.silent(t, datapath.AWSGateway4, datapath.AWSGateway6)
}

// Nobody but the CNI's entries knows the gateways: without them nothing works, so the entries of the row are the CNI's.
func TestRowAWSControl(t *testing.T) {
	row(t, rowSpec{name: "aws-vpc", control: true, only: "runc"}, func(t *testing.T, r *rowRun) {
		r.reaches(t, node.Beyond()...)
		ip(t, "-n", filepath.Base(r.pod.NetNS), "neigh", "flush", "nud", "permanent", "dev", "eth0")
		for _, target := range node.Beyond() {
			if err := r.try(t, target); err == nil {
				t.Errorf("%s is reached without the CNI's entries", target)
			}
		}
	})
}
