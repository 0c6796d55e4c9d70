// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// firstAgain is the least time from an Event to its first repetition; it doubles
	// with each, up to lastAgain.
	firstAgain, lastAgain = time.Minute, 10 * time.Minute
	// maxCases bounds what is remembered, and maxAge for how long: after an hour
	// the API server forgets Events, too (kube-apiserver --event-ttl).
	maxCases = 1024
	maxAge   = time.Hour
	// patience is how long a trouble waits for its turn, and for an API server that
	// does not answer.
	patience = 10 * time.Minute
)

// pacing bounds what one node writes, since what ails its pods may ail those of five
// thousand nodes in the same second (docs/scale.md has what that comes to).
type pacing struct {
	// first is how long a trouble waits at most that comes when no other waits; chance
	// says how long.
	first time.Duration
	// between is the least time between two writes; chance makes it up to three times
	// that.
	between time.Duration
	// burst is how many writes follow each other like that, and refill the time after
	// which there may be one more. Both are so in the mean: chance makes a write count
	// for half of one up to one and a half, so that nodes that began together come apart.
	burst  int
	refill time.Duration
	// retry is the first pause after a fault; it grows up to a minute.
	retry time.Duration
}

func usualPacing() pacing {
	return pacing{first: 5 * time.Second, between: 2 * time.Second, burst: 10, refill: time.Minute, retry: 5 * time.Second}
}

// upTo is some time up to a limit.
func upTo(limit time.Duration) time.Duration {
	return rand.N(limit + 1) //nolint:gosec // no secret
}

// caseKey is one kind of trouble of one pod. All of it is one Event, which says the
// latest and counts.
type caseKey struct {
	pod    pod
	reason Reason
}

// openCase is what is known of it.
type openCase struct {
	key     caseKey
	message string
	first   time.Time
	last    time.Time
	count   int       // of times that it was reported
	event   string    // the Event's name; empty while there is none
	writes  int       // that the API server took
	waiting int       // reports that no write has told of
	next    time.Time // not to be written before
	due     time.Time // when it first could have been
}

// writer decides when which Event is written. One goroutine has it.
type writer struct {
	opts   Options
	pacing pacing
	client api
	cases  map[caseKey]*openCase
	next   time.Time // nothing is written before
	pause  *backoff.ExponentialBackOff
	faulty bool // and that was said

	waiting int       // cases that wait
	credit  float64   // writes that may follow each other
	filled  time.Time // when credit was that
}

// api is the part of the API server that is used; see client.
type api interface {
	create(ctx context.Context, event object) error
	repeat(ctx context.Context, namespace, name string, change again) error
	close()
}

func newWriter(opts Options, pacing pacing) *writer {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = pacing.retry, time.Minute
	return &writer{
		opts: opts, pacing: pacing, client: &client{server: opts.Server, timeout: requestTimeout}, cases: make(map[caseKey]*openCase), pause: pause,
		credit: float64(pacing.burst), filled: time.Now(),
	}
}

// run takes troubles and writes them, until the context ends.
func (w *writer) run(ctx context.Context, queue <-chan trouble) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ready <-chan time.Time
		c, at := w.due()
		if c != nil {
			timer.Reset(time.Until(at))
			ready = timer.C
		}
		select {
		case t := <-queue:
			w.take(t, time.Now())
		case <-ready:
			w.write(ctx, c)
		case <-ctx.Done():
			return
		}
	}
}

// due is the case that is to be written next, and when. What has waited for its turn
// for too long is given up.
func (w *writer) due() (*openCase, time.Time) {
	var first *openCase
	now := time.Now()
	for _, c := range w.cases {
		if c.waiting > 0 && now.Sub(c.due) > patience && c.due.Equal(c.next) {
			w.settle(c, Dropped, now)
		}
		if c.waiting > 0 && (first == nil || c.next.Before(first.next)) {
			first = c
		}
	}
	if first == nil {
		return nil, now
	}
	return first, latest(first.next, w.next, w.affordable(now))
}

// affordable is when the next write is.
func (w *writer) affordable(now time.Time) time.Time {
	w.credit = min(float64(w.pacing.burst), w.credit+float64(now.Sub(w.filled))/float64(w.pacing.refill))
	w.filled = now
	return now.Add(time.Duration(max(0, 1-w.credit) * float64(w.pacing.refill)))
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// take notes a trouble.
func (w *writer) take(t trouble, now time.Time) {
	key := caseKey{t.pod, t.reason}
	c := w.cases[key]
	if c == nil {
		if !w.room(now) {
			w.opts.Count(Dropped)
			return
		}
		c = &openCase{key: key, first: now, next: now}
		w.cases[key] = c
	}
	if c.waiting == 0 {
		c.next = latest(c.next, now)
		c.due = c.next
		if w.waiting++; w.waiting == 1 {
			w.next = latest(w.next, now.Add(upTo(w.pacing.first)))
		}
	}
	c.message, c.last = t.message, now
	c.count++
	c.waiting++
}

// room forgets what is old and, where that is not enough, the oldest of what has
// been told.
func (w *writer) room(now time.Time) bool {
	var oldest *openCase
	for key, c := range w.cases {
		switch {
		case c.waiting > 0:
		case now.Sub(c.last) > maxAge:
			delete(w.cases, key)
		case oldest == nil || c.last.Before(oldest.last):
			oldest = c
		}
	}
	if len(w.cases) >= maxCases && oldest != nil {
		delete(w.cases, oldest.key)
	}
	return len(w.cases) < maxCases
}

// write tells the API server of one case.
func (w *writer) write(ctx context.Context, c *openCase) {
	w.credit -= 0.5 + rand.Float64() //nolint:gosec // no secret
	err := w.send(ctx, c)
	now := time.Now()
	w.next = now.Add(w.pacing.between + upTo(2*w.pacing.between))
	if ctx.Err() != nil {
		return
	}
	var refused *answerError
	switch isRefused := errors.As(err, &refused); {
	case err == nil:
		w.settle(c, Sent, now)
		w.pause.Reset()
		w.fault(nil)
	case isRefused && (refused.ending || refused.code == http.StatusNotFound):
		w.settle(c, Obsolete, now)
		w.fault(nil)
	case isRefused && refused.code/100 == 4 && refused.code != http.StatusTooManyRequests && refused.code != http.StatusConflict:
		w.settle(c, Failed, now)
		w.fault(err)
	case now.Sub(c.due) > patience:
		w.settle(c, Failed, now)
		w.fault(err)
		w.next = now.Add(w.pause.NextBackOff())
	default:
		w.fault(err)
		if isRefused && refused.code == http.StatusConflict {
			c.event = "" // it may be there by another's hand: the next has a name of its own
		}
		w.next = now.Add(w.pause.NextBackOff())
		c.next = w.next // others first: what ails one namespace is not to keep all waiting
	}
}

// send makes the Event, or counts up the one that is there; one that the server
// has forgotten is made anew.
func (w *writer) send(ctx context.Context, c *openCase) error {
	if c.event != "" {
		err := w.client.repeat(ctx, c.key.pod.namespace, c.event, again{Message: c.message, LastTimestamp: stamp(c.last), Count: c.count})
		var refused *answerError
		if !errors.As(err, &refused) || refused.code != http.StatusNotFound {
			return err
		}
		c.first, c.count, c.event = c.last, c.waiting, ""
	}
	name := eventName(c.key.pod.name, time.Now())
	p := c.key.pod
	err := w.client.create(ctx, object{
		APIVersion: "v1", Kind: "Event",
		Metadata:       metadata{Name: name, Namespace: p.namespace},
		InvolvedObject: reference{APIVersion: "v1", Kind: "Pod", Namespace: p.namespace, Name: p.name, UID: p.uid},
		Reason:         c.key.reason, Message: c.message, Type: "Warning",
		Source:         source{Component: component, Host: w.opts.Node},
		FirstTimestamp: stamp(c.first), LastTimestamp: stamp(c.last), Count: c.count,
		ReportingComponent: component, ReportingInstance: w.opts.Node,
	})
	if err == nil {
		c.event = name
	}
	return err
}

// settle ends the waiting of a case.
func (w *writer) settle(c *openCase, outcome Outcome, now time.Time) {
	for range c.waiting {
		w.opts.Count(outcome)
	}
	c.waiting = 0
	w.waiting--
	c.writes++
	c.next = now.Add(min(firstAgain<<min(c.writes-1, 10), lastAgain))
}

// fault tells when Events cannot be written, and when they can again.
func (w *writer) fault(err error) {
	if (err != nil) != w.faulty {
		w.faulty = err != nil
		w.opts.Fault(err)
	}
}

// stamp is a time as the API server keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// maxName bounds the name of an object, in bytes.
const maxName = 253

// eventName is the pod's name and the time, as client-go names Events.
func eventName(pod string, at time.Time) string {
	suffix := "." + strconv.FormatInt(at.UnixNano(), 16)
	if len(pod) > maxName-len(suffix) {
		pod = strings.TrimRight(pod[:maxName-len(suffix)], "-.")
	}
	return pod + suffix
}
