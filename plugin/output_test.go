// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/hoststate"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/preflight"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/view"
)

// Every byte but a few may stand in a link's name, and whoever owns a pod's namespace gives it: no form of output hands
// one on that a terminal acts on, and none fails for it.
func TestNoNameReachesTheTerminalAsACommand(t *testing.T) {
	const evil = "a\x1b[2J\x7f\u202e\u009b31m\r\n\tb\xff\u2028\ufeff\U000e0041\x00"
	rec := record.Record{
		ID: evil, Namespace: evil, Name: evil, UID: evil, Handler: evil, Runtime: evil, Refused: evil, Error: evil,
		NetNS: record.NetNS{Path: evil}, HostState: &record.HostState{Error: evil},
		Neighbors: []neighbor.Neighbor{{Dst: netip.MustParseAddr("10.0.0.1"), Dev: evil}},
		Skipped:   []neighbor.Skipped{{Dst: netip.MustParseAddr("10.0.0.2"), Dev: evil, Message: evil}},
		Stale:     []record.Stale{{Dev: evil}}, Doubts: []record.Doubt{{Dev: evil}},
		History: []record.Moment{{What: record.Kind(evil), Text: evil}},
	}
	story := Story{
		Record: rec, Unread: []string{evil}, Ends: []view.Link{{Name: evil, Kind: evil}},
		Now: &Present{Skipped: rec.Skipped, Contents: view.Contents{
			Routes: []view.Route{{Dev: evil}}, Neighbors: []view.Entry{{Dev: evil}},
		}},
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	printStory(w, story)
	printList(w, []record.Record{rec}, time.Now())
	printWide(w, []record.Record{rec}, time.Now())
	printStatus(w, status.Status{
		NRI: status.NRI{Error: evil}, Store: status.Store{Error: evil}, Host: status.Host{Error: evil}, Observe: &status.Observe{Error: evil},
		Config: config.Status{Error: evil}, Sandboxes: []record.Record{rec},
	})
	printReport(w, Report{NetNS: ReportNetNS{Path: "/run/netns/x"}, Neighbors: rec.Neighbors, Skipped: rec.Skipped, Differences: []neighbor.Difference{{Dev: evil}}})
	printUndone(w, []Undone{{ID: evil, Namespace: evil, Name: evil, NetNS: rec.NetNS}})
	printFinds(w, hoststate.Report{Unread: []string{evil}, Finds: []hoststate.Find{{Dev: evil, Keeps: evil}, {Dev: evil, Removed: true, Restore: evil}}})
	printCheck(w, preflight.Report{Items: []preflight.Item{{Name: evil, Found: evil, Do: evil}}})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	(&app{stderr: &said}).warn("read %s: %v", evil, errors.New(evil))
	texts := map[string]string{outputTable: table.String(), "warning": said.String()}
	for form, decode := range map[string]func([]byte, any) error{
		outputJSON: json.Unmarshal, outputYAML: func(data []byte, into any) error { return yaml.Unmarshal(data, into) },
	} {
		data, err := encode(form, story)
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if err := decode(data, new(any)); err != nil {
			t.Errorf("%s cannot be read: %v", form, err)
		}
		texts[form] = string(data)
	}
	for form, text := range texts {
		if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) && r != '\ufffd' }); at >= 0 {
			t.Errorf("%s: %q", form, text[max(0, at-40):min(len(text), at+10)])
		}
	}
}
