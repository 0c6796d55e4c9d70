// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"regexp"
	"strconv"
)

// cleansUp tells whether a runtime takes a sandbox away that a plugin refused at
// RunPodSandbox. containerd 2.0, 2.1, 2.2 before 2.2.6 and 2.3 before 2.3.3 leave
// its task running without network (their RunPodSandbox has no rollback after the
// plugins were asked; containerd commit 2b2b80f5 gave it one). containerd 1.7 rolls
// back, but with gVisor it waits for ever for the end of a sandbox that was created
// and never started, of which gVisor's shim does not tell (seen with 1.7.35: the
// sandbox can be neither stopped nor removed). What is not known is taken for one
// of those.
func cleansUp(runtime, version string) bool {
	if runtime == "cri-o" {
		return true // seen: Stop and Remove follow at once
	}
	match := release.FindStringSubmatch(version)
	if runtime != "containerd" || match == nil {
		return false
	}
	var v [3]int
	for i := range v {
		v[i], _ = strconv.Atoi(match[i+1]) // digits, as the pattern says
	}
	major, minor, patch := v[0], v[1], v[2]
	switch {
	case major != 2:
		return major > 2
	case minor == 2:
		return patch >= 6
	case minor == 3:
		return patch >= 3
	}
	return minor >= 4
}

// release finds the numbers in what runtimes call their version, such as
// "v2.2.6", "1.7.24~ds1" or "2.4.0-beta.0+unknown".
var release = regexp.MustCompile(`^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})`)
