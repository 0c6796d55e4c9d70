// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

const (
	// newest is how many sandboxes the page shows, and most how many it shows to
	// who asks for all: a row is some two kilobytes.
	newest, most = 100, 1000
	// gateways is how many of a sandbox's are shown.
	gateways = 16
	// longest is how much is shown of one text, in characters.
	longest = 300

	showAttention, showAll = "attention", "all"
)

// page is what the template is given.
type page struct {
	Node, Version, Up string
	Now               time.Time
	Style             template.CSS
	Refresh           bool
	Parts             []Part
	Tiles             []tile
	Tabs              []tab
	Note, Empty       string
	Rows              []row

	show string
}

type tile struct {
	Name  string
	Count int
	State State
}

type tab struct {
	Name, Href string
	Current    bool
}

type row struct {
	Namespace, Name, Handler string
	State                    State
	Verdict, Margin, Age     string
	VerdictState             State
	Gateways                 []gateway
	Problems                 []string
	Repairs                  int
	History                  []record.Moment
}

type gateway struct {
	Dst, LLAddr, Dev, Source string
	State                    State
}

// Here is the page's own address, with another way to refresh.
func (p page) Here(refresh string) string { return address(p.show, refresh) }

func address(show, refresh string) string {
	query := url.Values{}
	if show != "" {
		query.Set("show", show)
	}
	if refresh != "" {
		query.Set("refresh", "yes")
	}
	if len(query) == 0 {
		return "/"
	}
	return "/?" + query.Encode()
}

// arrange decides what is shown of a view, and how.
func arrange(v View, show string, now time.Time) page {
	if show != showAttention && show != showAll {
		show = ""
	}
	p := page{
		Node: printable(v.Node), Version: printable(v.Version), Up: ago(now.Sub(v.StartedAt)), Now: now.UTC(), show: show,
	}
	for _, part := range v.Parts {
		part.Says, part.Detail = printable(part.Says), printable(part.Detail)
		p.Parts = append(p.Parts, part)
	}
	listed := slices.Clone(v.Sandboxes)
	wrong, repairs, inTime := 0, 0, 0
	for _, rec := range listed {
		repairs += rec.Repins
		if !v.AsItShouldBe(rec) {
			wrong++
		}
		if rec.Timing.Verdict == record.InTime {
			inTime++
		}
	}
	p.Tiles = []tile{
		{"sandboxes", len(listed), ""}, {"started in time", inTime, ""},
		{"need attention", wrong, worst(wrong > 0, Bad)}, {"pins repaired", repairs, ""},
	}
	p.Tabs = []tab{
		{"Newest", address("", ""), show == ""},
		{fmt.Sprintf("Need attention (%d)", wrong), address(showAttention, ""), show == showAttention},
		{fmt.Sprintf("All (%d)", len(listed)), address(showAll, ""), show == showAll},
	}
	p.Empty = "No selected sandbox runs on this node."
	if show == showAttention {
		listed = slices.DeleteFunc(listed, v.AsItShouldBe)
		p.Empty = "Every selected sandbox on this node is as it should be."
	}
	limit := newest
	if show == showAll {
		limit = most
	}
	slices.SortStableFunc(listed, func(a, b record.Record) int {
		return cmp.Or(b.Began().Compare(a.Began()), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	if len(listed) > limit {
		p.Note = fmt.Sprintf("The newest %d of %d are shown; neighpin status has all of them.", limit, len(listed))
		listed = listed[:limit]
	}
	for _, rec := range listed {
		p.Rows = append(p.Rows, arrangeRow(rec, v.AsItShouldBe(rec), now))
	}
	return p
}

func worst(so bool, state State) State {
	if so {
		return state
	}
	return ""
}

func arrangeRow(rec record.Record, right bool, now time.Time) row {
	r := row{
		Namespace: printable(rec.Namespace), Name: printable(cmp.Or(rec.Name, rec.ID)), Handler: printable(rec.Handler),
		State: worst(!right, Bad), Repairs: rec.Repins, Age: "unknown",
	}
	r.Verdict, r.VerdictState = verdict(rec.Timing.Verdict)
	if rec.Timing.MarginMs != 0 {
		r.Margin = fmt.Sprintf("%.1f ms", rec.Timing.MarginMs)
	}
	if at := rec.Began(); !at.IsZero() {
		r.Age = ago(now.Sub(at))
	}
	stale := func(n neighbor.Neighbor) bool {
		return slices.ContainsFunc(rec.Stale, func(s record.Stale) bool { return s.Dst == n.Dst && s.Dev == n.Dev })
	}
	for _, n := range rec.Neighbors {
		if !stale(n) {
			r.Gateways = append(r.Gateways, gateway{n.Dst.String(), n.LLAddr.String(), printable(n.Dev), string(n.Source), ""})
		}
	}
	for _, s := range rec.Stale {
		says := "stale copy, true is " + cmp.Or(s.LLAddr.String(), string(s.Reason))
		r.Gateways = append(r.Gateways, gateway{s.Dst.String(), s.Copied.String(), printable(s.Dev), says, Bad})
	}
	for _, s := range rec.Skipped {
		state := Warn
		if s.Reason.NoTruth() {
			state = Bad
		}
		r.Gateways = append(r.Gateways, gateway{s.Dst.String(), "", printable(s.Dev), "not pinned: " + string(s.Reason), state})
	}
	if more := len(r.Gateways) - gateways; more > 0 {
		r.Gateways = r.Gateways[:gateways]
		r.Problems = append(r.Problems, fmt.Sprintf("%d more gateways", more))
	}
	for _, d := range rec.Doubts[:min(len(rec.Doubts), gateways)] {
		r.Problems = append(r.Problems, printable(fmt.Sprintf("%s is in doubt: %s %v", d.Dst, d.Reason, d.Claims)))
	}
	for _, says := range []string{rec.Refused, rec.Error} {
		if says != "" {
			r.Problems = append(r.Problems, printable(says))
		}
	}
	if rec.HostState != nil && len(rec.HostState.Finds) > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("%d left by others on the host for its addresses", len(rec.HostState.Finds)))
	}
	for _, m := range rec.History {
		m.Text, m.At = printable(m.Text), m.At.UTC()
		r.History = append(r.History, m)
	}
	return r
}

func verdict(v record.Verdict) (says string, state State) {
	switch v {
	case record.InTime:
		return "in time", Good
	case record.Late:
		return "late", Bad
	case record.Unproven:
		return "unproven", Warn
	case record.Nothing:
		return "nothing to pin", ""
	}
	return "starting", ""
}

// ago is a time span in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// printable quotes what is not what it looks like, such as characters that turn
// the direction of the text around, and cuts what is too long.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if runes := []rune(s); len(runes) > longest {
		s = string(runes[:longest]) + "…"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '\uFFFD' }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}
