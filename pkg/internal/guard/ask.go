// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"time"
)

// askers ask at once; a question that is answered takes some forty milliseconds, one that
// is not some hundreds.
const askers = 8

// asking is how a ward's gateways are asked for on the wire. The guard's mutex
// guards it.
type asking struct {
	timer *time.Timer // until the next time, or nil
	soon  bool        // the timer is that of a first question
	busy  bool        // an asker has it, or is to have it
}

// scheduleAsk has a ward's gateways asked for: at once if one of them never was,
// else when the interval is over.
func (g *Guard) scheduleAsk(w *Ward) {
	if g.opts.AskInterval <= 0 || g.closed || w.asking.busy || !g.wards[w] {
		return
	}
	questions := w.subject.Questions()
	if timer := w.asking.timer; timer != nil {
		if questions.Any && (!questions.First || w.asking.soon) {
			return
		}
		timer.Stop()
		w.asking.timer = nil
	}
	if !questions.Any {
		return
	}
	pause := jittered(g.opts.AskInterval)
	if questions.First {
		pause = 0
	}
	var timer *time.Timer
	timer = time.AfterFunc(pause, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if w.asking.timer != timer || g.closed {
			return // stopped too late
		}
		w.asking.timer, w.asking.busy = nil, true
		if w.subject.Questions().Unheard { // one that begins does not wait for those that hear nothing
			g.asksNew = append(g.asksNew, w)
		} else {
			g.unasked = append(g.unasked, w)
		}
		g.askable.Signal()
	})
	w.asking.timer, w.asking.soon = timer, questions.First
}

// ask asks for one ward after another until the end. It reads nothing of the
// namespace but the wire and changes nothing, so that it need not have the ward.
func (g *Guard) ask() {
	for {
		w := g.nextToAsk()
		if w == nil {
			return
		}
		news := w.subject.Ask()
		if g.ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		w.asking.busy = false
		if news {
			g.mark(w, Event)
		}
		g.scheduleAsk(w)
		g.mu.Unlock()
	}
}

func (g *Guard) nextToAsk() *Ward {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var w *Ward
		switch {
		case g.closed:
			return nil
		case len(g.asksNew) > 0:
			w, g.asksNew = g.asksNew[0], g.asksNew[1:]
		case len(g.unasked) > 0:
			w, g.unasked = g.unasked[0], g.unasked[1:]
		default:
			g.askable.Wait()
			continue
		}
		if g.wards[w] {
			return w
		}
	}
}
