// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakPatience bounds the wait for what tests have ended to be gone, which on a busy
// machine takes longer than the half second that goleak gives it.
const leakPatience = 30 * time.Second

// Main runs the tests of a package and makes it fail when goroutines or
// descriptors are left. Use it as the whole of TestMain.
func Main(m *testing.M) {
	before := descriptors()
	code := m.Run()
	if code == 0 {
		if err := left(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// left is what the tests have not ended, given what was open before them.
func left(before []string) (err error) {
	for end := time.Now().Add(leakPatience); ; {
		if err = goleak.Find(); err == nil { // which waits a little itself
			if open := leaked(before, descriptors()); len(open) > 0 {
				err = fmt.Errorf("descriptors left open:\n\t%s", strings.Join(open, "\n\t"))
			}
		}
		if err == nil || time.Now().After(end) {
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
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
