// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

var now = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// record is a sandbox that began some seconds ago and is as it should be.
func aPod(name string, seconds int) record.Record {
	at := now.Add(-time.Duration(seconds) * time.Second)
	return record.Record{
		ID: "id-" + name, Name: name, Namespace: "shop", Handler: "runsc", Phase: record.Started, CapturedAt: at,
		Neighbors: []neighbor.Neighbor{{Dst: netip.MustParseAddr("10.97.0.1"), Dev: "eth0", LLAddr: "02:00:00:00:00:01", Family: "inet", Source: neighbor.SourcePeer}},
		Timing:    record.Timing{Verdict: record.InTime, MarginMs: 61.25},
		History:   []record.Moment{{At: at, What: record.KindFound}, {At: at, What: record.KindPinned, Text: "10.97.0.1 eth0"}},
	}
}

func late(rec record.Record) record.Record {
	rec.Timing = record.Timing{Verdict: record.Late}
	return rec
}

func right(rec record.Record) bool { return rec.Timing.Verdict != record.Late }

// shown asks for the page of some sandboxes.
func shown(t *testing.T, target string, sandboxes ...record.Record) (body string, header http.Header) {
	t.Helper()
	h, err := New(func() View {
		return View{
			Node: "node-1", Version: "v1.2.3", StartedAt: now.Add(-3 * time.Hour), AsItShouldBe: right, Sandboxes: sandboxes,
			Parts: []Part{{Name: "NRI", Says: "connected", Detail: "containerd v2.3.3", State: Good}, {Name: "Configuration", Says: "not taken over", Detail: "a\x1bb", State: Bad}},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h.(*handler).now = func() time.Time { return now }
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, target, nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("%d: %s", recorder.Code, recorder.Body)
	}
	return recorder.Body.String(), recorder.Header()
}

// names are the pods that a page shows, in order.
func names(body string) (list []string) {
	for _, m := range regexp.MustCompile(`<p class="name"><bdi>([^<]*)</bdi>`).FindAllStringSubmatch(body, -1) {
		list = append(list, m[1])
	}
	return list
}

func TestThePageShowsTheNode(t *testing.T) {
	rec := late(aPod("web", 90))
	rec.Repins, rec.Error, rec.Refused = 7, "no link", "its runtime was quicker"
	rec.Skipped = []neighbor.Skipped{{Dst: netip.MustParseAddr("10.97.0.2"), Dev: "eth0", Reason: neighbor.ReasonRouterBeyondBridge}}
	rec.Stale = []record.Stale{{Dst: netip.MustParseAddr("10.97.0.1"), Dev: "eth0", Copied: "02:00:00:00:00:01", LLAddr: "02:00:00:00:00:99"}}
	rec.HostState = &record.HostState{}
	body, _ := shown(t, "/", rec)
	for _, want := range []string{
		"<bdi>node-1</bdi>", "v1.2.3", "up 3 h", "2026-11-22 08:00:00 UTC", "containerd v2.3.3", `&#34;a\x1bb&#34;`, "not taken over",
		"<bdi>shop</bdi> · <bdi>runsc</bdi>", ">late<", "stale copy, true is 02:00:00:00:00:99", "not pinned: RouterBeyondBridge",
		"no link", "its runtime was quicker", `class="number repairs">7<`, ">90 s<", "10.97.0.1 eth0",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestTheNewestComeFirst(t *testing.T) {
	body, _ := shown(t, "/", aPod("old", 500), aPod("newest", 1), aPod("middle", 30))
	if got := strings.Join(names(body), " "); got != "newest middle old" {
		t.Errorf("order %q", got)
	}
}

func TestOnlyThoseThatAreNotAsTheyShouldBe(t *testing.T) {
	body, _ := shown(t, "/?show=attention", aPod("good", 1), late(aPod("bad", 2)))
	if got := strings.Join(names(body), " "); got != "bad" {
		t.Errorf("shown: %q", got)
	}
	if body, _ = shown(t, "/?show=attention", aPod("good", 1)); !strings.Contains(body, "Every selected sandbox") {
		t.Error("nothing is said where nothing is wrong")
	}
	if body, _ = shown(t, "/"); !strings.Contains(body, "No selected sandbox") {
		t.Error("nothing is said where there is nothing")
	}
}

func TestAFullNodeIsShownInPart(t *testing.T) {
	var many []record.Record
	for i := range 10_000 {
		many = append(many, aPod(fmt.Sprintf("pod-%d", i), i))
	}
	began := time.Now()
	for target, count := range map[string]int{"/": newest, "/?show=all": most, "/?show=%00%ff": newest} {
		body, _ := shown(t, target, many...)
		list := names(body)
		if len(list) != count || list[0] != "pod-0" {
			t.Errorf("%s shows %d sandboxes, the first is %q", target, len(list), list[0])
		}
		if note := fmt.Sprintf("The newest %d of 10000 are shown", count); !strings.Contains(body, note) {
			t.Errorf("%s does not say that there are more", target)
		}
		if len(body) > 4<<20 {
			t.Errorf("%s: %d bytes", target, len(body))
		}
		t.Logf("%s: %d bytes", target, len(body))
	}
	t.Logf("three pages took %s", time.Since(began))
}

func TestASandboxOfManyGatewaysIsShownInPart(t *testing.T) {
	rec := aPod("web", 1)
	for i := range 500 {
		rec.Skipped = append(rec.Skipped, neighbor.Skipped{Dst: netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i)}), Dev: "eth0", Reason: neighbor.ReasonLimitReached})
	}
	if body, _ := shown(t, "/", rec); !strings.Contains(body, "485 more gateways") || strings.Count(body, `<p class="gateway`) != gateways {
		t.Errorf("%d gateways are shown", strings.Count(body, `<p class="gateway`))
	}
}

// What pods and others can have a say in, wherever the page shows it.
func TestHostileTextIsInert(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=http://192.0.2.1/x onerror=alert(1)>{{.Node}}`
	long := strings.Repeat("x", 5000)
	rec := late(aPod(evil, 1))
	rec.Namespace, rec.Handler, rec.Error, rec.Refused = evil, evil, evil+"\x1b[2J\u202e", long
	rec.Neighbors[0].Dev = evil
	rec.History[0].Text = evil
	body, header := shown(t, "/?show=<script>&refresh=<script>", rec)
	for _, bad := range []string{"<script", "<img", "\x1b", "\u202e", strings.Repeat("x", longest+1), "{{"} {
		if strings.Contains(strings.ReplaceAll(body, "{{.Node}}", ""), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "style-src 'sha256-"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", header)
	}
}

// Nothing in the page leads anywhere else, nor does anything run.
func TestThePageIsSelfContained(t *testing.T) {
	body, _ := shown(t, "/?refresh=yes", aPod("web", 1))
	for _, m := range regexp.MustCompile(`(?:href|src|content)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		switch to := m[1]; {
		case strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//"), strings.HasPrefix(to, "data:image/svg+xml,"):
		case to == "10", to == "light dark", to == "width=device-width, initial-scale=1":
		default:
			t.Errorf("the page refers to %q", to)
		}
	}
	for _, bad := range []string{"<script", "javascript:", "@import", "url(", "onload=", "onerror=", "<iframe", "<form"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page holds %s", bad)
		}
	}
}

func TestRecordsOfAnyKindAreShown(t *testing.T) {
	var rec record.Record
	if err := json.Unmarshal([]byte(`{"version":1,"doubts":[{}],"stale":[{}],"skipped":[{}],"neighbors":[{}],"history":[{}]}`), &rec); err != nil {
		t.Fatal(err)
	}
	if body, _ := shown(t, "/", rec, record.Record{}); len(names(body)) != 2 {
		t.Error("a record is not shown")
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 s", 59 * time.Second: "59 s", 119 * time.Second: "119 s", 2 * time.Minute: "2 min", 119 * time.Minute: "119 min",
		47 * time.Hour: "47 h", 49 * time.Hour: "2 d",
	} {
		if got := ago(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
