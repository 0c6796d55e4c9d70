// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// Links that resolve no addresses need no entry, and a wrong one would cut the pod off.
func TestRowNoARP(t *testing.T) {
	row(t, rowSpec{name: "noarp"}, func(t *testing.T, r *rowRun) {
		r.recorded(t, map[string]truth{})
		r.skipped(t, map[string]string{datapath.CiliumGateway4: "NoARP", datapath.CiliumGateway6: "NoARP", "192.0.2.1": "NoARP"})
		if used, annotated := r.used(t), r.annotated(t, r.container); len(used) != 0 || len(annotated) != 0 || r.sandbox.Error != "" {
			t.Errorf("the stack has %v, the annotation %v, error %q; want none", used, annotated, r.sandbox.Error)
		}
		r.reaches(t, node.Beyond()...)
	})
}
