// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestShowFindsTheSandboxThatIsMeant(t *testing.T) {
	state := saved(t, recorded("abc1", "shop", "web"), recorded("abd2", "shop", "db"), recorded("e3", "other", "web"), recorded("f4", "shop", "web"))
	for what, want := range map[string]string{
		"other/web": "Sandbox:               e3", "db": "Sandbox:               abd2", "abd": "Sandbox:               abd2", "abc1": "Sandbox:               abc1",
	} {
		if got := neighpin(nil, "show", what, "--state-dir", state); got.code != exitOK || !strings.Contains(strings.Join(strings.Fields(got.stdout), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("show %s: %+v", what, got)
		}
	}
	for what, want := range map[string]string{
		"web": "3 match, name one by its id", "shop/web": "2 match", "ab": "2 match", "nobody": "none of 4", hostile: "none of 4",
	} {
		got := neighpin(nil, "show", what, "--state-dir", state)
		isCalm(t, what, got)
		if got.code != exitError || !strings.Contains(got.stderr, want) {
			t.Errorf("show %s: %+v, want %q", what, got, want)
		}
	}
	if got := neighpin(nil, "show"); got.code != exitUsage {
		t.Errorf("show nothing: %+v", got)
	}
}

func TestShowTellsWhatIsWrongAndIsCalmAboutIt(t *testing.T) {
	state := saved(t, troubled("a2", "shop", hostile))
	for _, form := range []string{"table", "json", "yaml"} {
		got := neighpin(nil, "show", "a2", "-o", form, "--state-dir", state)
		isCalm(t, form, got)
		if got.code != exitNotPinned {
			t.Errorf("show -o %s: exit code %d", form, got.code)
		}
	}
	got := neighpin(nil, "show", "a2", "--state-dir", state)
	for _, want := range []string{
		"Error, Late, Stale, PeerGone, Conflict", "Stale copies; only a new pod helps", "02:00:00:00:00:02", "Who else claims a gateway",
		"[02:00:00:00:00:03]", "Copied by the runtime", "namespace /var/run/netns/gone-a2 is gone", "(4 times, this is the last)", "margin 61.5 ms",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("show does not say %q:\n%s", want, got.stdout)
		}
	}
}

// A real namespace: what it holds is read as it is, and nothing in it changes.
func TestShowReadsTheNamespaceAsItIsNow(t *testing.T) {
	ns, outside := newPod(t)
	rec := recorded("a1", "shop", "web")
	rec.Taken, rec.Neighbors[0].Dst = false, netip.MustParseAddr("10.88.0.1")
	rec.Neighbors[0].LLAddr = neighbor.HardwareAddr(outside.MAC("veth0"))
	rec.NetNS = record.NetNS{Path: ns.Mount(), Cookie: ns.Cookie()}
	state := saved(t, rec)
	before := ns.Output("neigh", "show", "nud", "all")
	got := neighpin(nil, "show", "shop/web", "-o", "json", "--state-dir", state)
	var story Story
	if err := json.Unmarshal([]byte(got.stdout), &story); err != nil || got.code != exitOK {
		t.Fatalf("show: %v, %+v", err, got)
	}
	if story.Now == nil || len(story.Now.Resolved) != 1 || len(story.Now.Skipped) != 1 || len(story.Now.Routes) < 2 || story.Now.HandedOver || len(story.Unread) != 0 {
		t.Errorf("now: %+v, not read: %v", story.Now, story.Unread)
	}
	if got := neighpin(nil, "show", "web", "--state-dir", state); !strings.Contains(got.stdout, "Routes in the namespace now") || !strings.Contains(got.stdout, "default") {
		t.Errorf("show: %+v", got)
	}
	if after := ns.Output("neigh", "show", "nud", "all"); after != before {
		t.Errorf("show changed the namespace: %q, before %q", after, before)
	}
	rec.NetNS.Cookie++
	state = saved(t, rec)
	if got := neighpin(nil, "show", "web", "--state-dir", state); !strings.Contains(got.stdout, "is another one now") || strings.Contains(got.stdout, "Routes in") {
		t.Errorf("a namespace that took the name: %+v", got)
	}
}
