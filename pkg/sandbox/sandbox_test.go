// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/neighpin/neighpin/pkg/record"
)

func TestASandboxKeepsNothingOfTheMessageThatToldOfIt(t *testing.T) {
	message := strings.Repeat("id name uid /run/netns/cni-1 ", 100)
	told := record.Identity{ID: message[:2], Name: message[3:7], Namespace: "shop", UID: "", NetNSPath: message[12:28]}
	got := newSandbox(told).id
	if got.ID != told.ID || got.Name != told.Name || got.UID != told.UID || got.NetNSPath != told.NetNSPath || got.Namespace != told.Namespace {
		t.Errorf("told %+v, kept %+v", told, got)
	}
	if unsafe.StringData(got.NetNSPath) == unsafe.StringData(told.NetNSPath) {
		t.Error("the path is still a part of the message")
	}
}

// Memory is given back once after a storm, when that is over.
func TestMemoryIsGivenBackAfterManyComparisons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guard{}
		look := func(times int) {
			for range times {
				g.mu.Lock()
				g.tidy()
				g.mu.Unlock()
			}
		}
		state := func() (untidy int, tidying bool) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.untidy, g.tidying != nil
		}
		look(tidyMany - 1)
		if _, tidying := state(); tidying {
			t.Error("few comparisons have memory given back")
		}
		look(1)
		for range 3 { // another one comes each time
			<-time.After(tidyAfter / 2)
			look(1)
		}
		if untidy, _ := state(); untidy == 0 {
			t.Error("memory was given back in the middle of it")
		}
		<-time.After(tidyAfter)
		synctest.Wait()
		if untidy, tidying := state(); untidy != 0 || tidying {
			t.Errorf("%d comparisons count still, and that memory is given back again is %t", untidy, tidying)
		}
	})
}
