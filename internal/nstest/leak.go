// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of a package and makes it fail when goroutines or
// descriptors are left. Use it as the whole of TestMain.
func Main(m *testing.M) {
	before := descriptors()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if left := leaked(before, descriptors()); len(left) > 0 && code == 0 {
			fmt.Fprintf(os.Stderr, "descriptors left open:\n\t%s\n", strings.Join(left, "\n\t"))
			code = 1
		}
		os.Exit(code)
	}))
}

// descriptors lists what is open, each with what it is.
func descriptors() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err) // there is no test to fail yet
	}
	var list []string
	for _, e := range entries {
		// The folder's own descriptor is in the list and gone by now.
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list = append(list, target)
		}
	}
	return list
}

// leaked returns what is in after and not in before. The runtime's poller opens
// its two when the first socket is made.
func leaked(before, after []string) []string {
	var left []string
	for _, target := range after {
		if i := slices.Index(before, target); i >= 0 {
			before = slices.Delete(slices.Clone(before), i, i+1)
			continue
		}
		if strings.HasPrefix(target, "anon_inode:[event") {
			continue // epoll and its wake-up
		}
		left = append(left, target)
	}
	return left
}
