// SPDX-License-Identifier: Apache-2.0

package nri

import "testing"

func TestRuntimesThatCleanUpARefusedSandbox(t *testing.T) {
	for _, c := range []struct {
		runtime, version string
		want             bool
	}{
		{"containerd", "v1.7.35", true},
		{"containerd", "1.7.24~ds1", true},
		{"containerd", "v1.6.36", false},
		{"containerd", "v2.0.14", false},
		{"containerd", "v2.1.9", false},
		{"containerd", "v2.2.5", false},
		{"containerd", "v2.2.6", true},
		{"containerd", "v2.3.2", false},
		{"containerd", "v2.3.3", true},
		{"containerd", "v2.4.0-beta.0+unknown", true},
		{"containerd", "v2.10.1", true},
		{"containerd", "v3.0.0", true},
		{"containerd", "", false},
		{"containerd", "main", false},
		{"containerd", "v99999999999999999999.1.1", false},
		{"cri-o", "1.37.0", true},
		{"something", "v2.4.2", false},
	} {
		if got := cleansUp(c.runtime, c.version); got != c.want {
			t.Errorf("cleansUp(%q, %q) = %v", c.runtime, c.version, got)
		}
	}
}
