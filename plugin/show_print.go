// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/record"
)

const timeForm = "2006-01-02 15:04:05.000 MST"

// secondForm is that of times of which the second is enough.
const secondForm = "2006-01-02 15:04:05 MST"

// printStory prints a story part by part; a part with nothing to say is left out.
func printStory(w io.Writer, story Story) {
	rec := story.Record
	printHead(w, story)
	if len(rec.Neighbors) > 0 {
		fmt.Fprintln(w, "\nPinned:\n  GATEWAY\tDEV\tLLADDR\tSOURCE")
		printNeighbors(w, rec.Neighbors)
	}
	if len(rec.Skipped) > 0 {
		fmt.Fprintln(w, "\nNot pinned:\n  GATEWAY\tDEV\tREASON\tWHY")
		printSkipped(w, rec.Skipped)
	}
	if len(story.Copied) > 0 {
		fmt.Fprintln(w, "\nCopied by the runtime, by neighpin's record (its own stack cannot be asked):\n  GATEWAY\tDEV\tLLADDR\tSOURCE")
		printNeighbors(w, story.Copied)
	}
	if len(rec.Stale) > 0 {
		fmt.Fprintln(w, "\nStale copies; only a new pod helps:\n  GATEWAY\tDEV\tCOPIED\tTRUE NOW\tSINCE")
		for _, s := range rec.Stale {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", s.Dst, quoteOdd(s.Dev), s.Copied, cmp.Or(string(s.LLAddr), string(s.Reason)), s.Since.Format(timeForm))
		}
	}
	if len(rec.Doubts) > 0 {
		fmt.Fprintln(w, "\nWho else claims a gateway:\n  GATEWAY\tDEV\tREASON\tCLAIMED BY\tSINCE")
		for _, d := range rec.Doubts {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%v\t%s\n", d.Dst, quoteOdd(d.Dev), d.Reason, d.Claims, d.Since.Format(timeForm))
		}
	}
	printHost(w, story)
	printPresent(w, story.Now)
	for i, unread := range story.Unread {
		if i == 0 {
			fmt.Fprintln(w, "\nNot read:")
		}
		fmt.Fprintf(w, "  %s\n", quoteOdd(unread))
	}
	printHistory(w, rec.History)
}

func printHead(w io.Writer, story Story) {
	rec := story.Record
	line := func(name, value string) { fmt.Fprintf(w, "%s:\t%s\n", name, value) }
	line("Pod", podName(rec))
	line("Sandbox", quoteOdd(rec.ID))
	line("UID", orNone(quoteOdd(rec.UID)))
	line("Handler", fmt.Sprintf("%s (%s)", orNone(quoteOdd(rec.Handler)), orNone(quoteOdd(rec.Runtime))))
	line("Network namespace", fmt.Sprintf("%s, cookie %d", quoteOdd(rec.NetNS.Path), rec.NetNS.Cookie))
	status := "as it should be"
	if len(story.Problems) > 0 {
		status = strings.Join(story.Problems, ", ")
	} else if rec.Phase == record.Starting {
		status = "starting"
	}
	line("Status", status)
	if rec.Refused != "" {
		line("Refused", quoteOdd(rec.Refused))
	}
	if rec.Error != "" {
		line("Error", quoteOdd(rec.Error))
	}
	timing := string(rec.Timing.Verdict)
	if rec.Timing.MarginMs != 0 {
		timing += fmt.Sprintf(", margin %.1f ms", rec.Timing.MarginMs)
	}
	if rec.Timing.ResultToPinMs != 0 {
		timing += fmt.Sprintf(", %.1f ms after CNI's result at most", rec.Timing.ResultToPinMs)
	}
	if !rec.Timing.PinnedAt.IsZero() {
		timing += ", pinned at " + rec.Timing.PinnedAt.Format(timeForm)
	}
	line("Timing", timing)
	stack := "the namespace's own, by what was seen"
	if rec.Taken {
		stack = "the runtime's own: it took the addresses, and the kernel's tables of the namespace mean nothing any more"
	}
	line("Network stack", stack)
	line("Repairs", fmt.Sprintf("%d, of which %d no event had announced", rec.Repins, rec.Missed))
	line("Annotated, live file", fmt.Sprintf("%t, %t", rec.Annotated, rec.LiveFile))
	if o := rec.Observed; o != nil {
		line("Asked for since "+o.Since.Format(timeForm), fmt.Sprintf("pinned gateways %d times, others %d times", o.Gateways, o.Others))
	}
}

func printNeighbors(w io.Writer, list []neighbor.Neighbor) {
	for _, n := range list {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", n.Dst, quoteOdd(n.Dev), n.LLAddr, n.Source)
	}
}

func printSkipped(w io.Writer, list []neighbor.Skipped) {
	for _, s := range list {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", s.Dst, quoteOdd(s.Dev), s.Reason, quoteOdd(s.Message))
	}
}

// printHost prints what concerns the sandbox outside of it.
func printHost(w io.Writer, story Story) {
	rec := story.Record
	if len(story.Ends) > 0 {
		fmt.Fprintln(w, "\nOther ends of its links, on the host:\n  LINK\tNUMBER\tKIND\tLLADDR\tUP\tPORT OF")
		for _, l := range story.Ends {
			fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%t\t%s\n", quoteOdd(l.Name), l.Index, orNone(quoteOdd(l.Kind)), orNone(l.LLAddr), l.Up, number(l.Master))
		}
	}
	if rec.HostState != nil {
		fmt.Fprintf(w, "\nLeft on the host for its addresses, looked at %s:\n", rec.HostState.At.Format(timeForm))
		for _, f := range rec.HostState.Finds {
			fmt.Fprintf(w, "  %s\n", findLine(f))
		}
		if len(rec.HostState.Finds) == 0 {
			fmt.Fprintln(w, "  nothing")
		}
		if rec.HostState.Error != "" {
			fmt.Fprintf(w, "  error: %s\n", quoteOdd(rec.HostState.Error))
		}
	}
	if len(rec.ReturnPath) > 0 {
		fmt.Fprintln(w, "\nWay back, on the host:\n  POD'S ADDRESS\tLINK\tLLADDR\tSOURCE")
		for _, e := range rec.ReturnPath {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", e.Dst, quoteOdd(e.Dev), e.LLAddr, e.Source)
		}
	}
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// printPresent prints what was read just now.
func printPresent(w io.Writer, now *Present) {
	if now == nil {
		return
	}
	if now.HandedOver {
		fmt.Fprintln(w, "\nIn the namespace now: no address, since the runtime has taken them; what else is there nobody uses.")
	} else {
		fmt.Fprintln(w, "\nWhat is true now, by the host's links:\n  GATEWAY\tDEV\tLLADDR\tSOURCE")
		printNeighbors(w, now.Resolved)
		for _, s := range now.Skipped {
			fmt.Fprintf(w, "  %s\t%s\t-\tnot known: %s\t%s\n", s.Dst, quoteOdd(s.Dev), s.Reason, quoteOdd(s.Message))
		}
	}
	if len(now.Routes) > 0 {
		fmt.Fprintln(w, "\nRoutes in the namespace now:\n  DESTINATION\tGATEWAY\tDEV\tTABLE\tMETRIC")
		for _, r := range now.Routes {
			via := "-"
			if r.Gateway.IsValid() {
				via = r.Gateway.String()
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%d\n", r.Dst, via, orNone(quoteOdd(r.Dev)), r.Table, r.Metric)
		}
	}
	if len(now.Neighbors) > 0 {
		fmt.Fprintln(w, "\nNeighbors in the namespace now:\n  ADDRESS\tDEV\tLLADDR\tSTATE\tMADE BY")
		for _, e := range now.Neighbors {
			by := "-"
			if e.Protocol == neighbor.Protocol {
				by = "neighpin, by its mark"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", e.Dst, quoteOdd(e.Dev), orNone(e.LLAddr), strings.Join(e.State, ","), by)
		}
	}
	if now.Cut {
		fmt.Fprintf(w, "  there is more: %d of each kind are shown\n", maxShown)
	}
}

func printHistory(w io.Writer, history []record.Moment) {
	if len(history) == 0 {
		return
	}
	fmt.Fprintln(w, "\nHistory:\n  WHEN\tAFTER\tWHAT\t")
	first := history[0].At
	for _, m := range history {
		times := ""
		if m.Times > 1 {
			times = fmt.Sprintf(" (%d times, this is the last)", m.Times)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s%s\n", m.At.Format(timeForm), m.At.Sub(first).Round(time.Millisecond), quoteOdd(string(m.What)), quoteOdd(m.Text), times)
	}
}
