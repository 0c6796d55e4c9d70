// SPDX-License-Identifier: Apache-2.0

// Package eventlog writes the engine's events to the log: one line per sandbox at
// info, and what went wrong.
package eventlog

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/pkg/record"
)

// recordQuiet is how long the log is silent about records after one line on
// them: a full disk fails for every sandbox, and once is enough.
const recordQuiet = time.Minute

const (
	// chatter is how many lines one sandbox may cause at once by what changes in
	// it after its start, and chatterPause the time in which it gets one back: a
	// pod can change without end.
	chatter      = 60
	chatterPause = 10 * time.Second
)

// Log is where the engine's events go. It is for any number of goroutines.
type Log struct {
	log logrus.FieldLogger

	mu           sync.Mutex // guards the following
	recordSaid   time.Time
	unidentified bool
	told         map[string]telling // by the sandbox's id
	sweepAt      int                // how many of told lead to a look for those that can go
}

// telling is what has been told of one sandbox.
type telling struct {
	lines int       // that count at the moment
	at    time.Time // when that was reckoned
	said  bool      // that some are left out
}

var _ record.Reporter = (*Log)(nil)

// New returns a log that writes to another, of which levels and format are its own.
func New(log logrus.FieldLogger) *Log { return &Log{log: log} }

// Report writes one event.
func (l *Log) Report(event record.Event) {
	log := l.log
	if event.Record.ID != "" {
		log = log.WithFields(podFields(event.Record))
	}
	if event.Err != nil {
		log = log.WithError(event.Err)
	}
	may, last := l.mayTellChange(event)
	if last {
		log.Warn("sandbox changes without end; of its changes only some are told from here on")
	}
	if !may {
		return
	}
	switch event.Kind {
	case record.KindPinned:
		log.Debug("gateways pinned")
	case record.KindRepinned:
		log.WithField("repins", event.Record.Repins).Info("pins written again")
	case record.KindTiming:
		l.timing(log, event.Record)
	case record.KindAdopted:
		log.Info("sandbox of an earlier process taken over")
	case record.KindReleased:
		log.Debug("sandbox is gone; its record is removed")
	case record.KindFailed:
		log.Warn("sandbox is not pinned as it should be")
	case record.KindUnidentified:
		l.unowned(log.WithField("path", event.Path))
	case record.KindStore:
		l.store(log, event.Err)
	case record.KindWithdrawn, record.KindStale, record.KindFresh, record.KindInsists, record.KindConflict, record.KindSilent:
		drifted(log, event)
	case record.KindRefused:
		log.Warn("pod refused: its gateways are not pinned, and enforce is set")
	case record.KindHostState:
		hostState(log, event)
	case record.KindHost:
		if event.Err != nil {
			log.Warn("changes of the host's links cannot be heard; pins are compared with what is true at intervals only (is CAP_NET_BROADCAST granted?)")
		} else {
			log.Info("changes of the host's links are heard: pins follow them at once")
		}
	case record.KindUnobserved:
		log.Warn("what the pod asks for is not counted, or not all of it")
	case record.KindStoreless:
		log.Info("containerd keeps no records of new sandboxes (1.7 does not), so there is no early path: they are pinned when NRI tells of them, which such a containerd does before it starts them; said once")
	case record.KindRecord:
		if l.mayTellRecord() {
			log.Warn("record could not be read or kept; work goes on without it (is the state directory full or read-only?)")
		}
	}
}

// drifted writes one line for each gateway whose truth, or whose pin, has changed
// since the sandbox started.
func drifted(log logrus.FieldLogger, event record.Event) {
	for _, c := range event.Changes {
		log := log.WithFields(logrus.Fields{"dst": c.Dst.String(), "dev": c.Dev})
		for name, value := range map[string]string{
			"pinned": string(c.Was), "true": string(c.Now), "reason": string(c.Reason), "message": c.Message,
		} {
			if value != "" {
				log = log.WithField(name, value)
			}
		}
		switch event.Kind {
		case record.KindWithdrawn:
			log.Warn("pin withdrawn: it is not known to be true any more")
		case record.KindStale:
			log.Warn("the runtime holds a copy of a gateway's address that is not true any more; only a new pod helps")
		case record.KindFresh:
			log.Info("what the runtime copied is true again")
		case record.KindInsists:
			log.Warn("somebody in the pod insists on another entry; the gateway is given up and not annotated any more")
		case record.KindConflict:
			log = log.WithField("claims", c.Claims)
			if c.Was == "" {
				log.Warn("more than one station claims the gateway; it is not pinned")
			} else {
				log.Warn("more than one station claims the gateway; its pin stays as it is")
			}
		default:
			log.Warn("nobody answers for a gateway that was learned by asking; its pin stays as it is")
		}
	}
}

func (l *Log) timing(log logrus.FieldLogger, rec record.Record) {
	log = log.WithFields(logrus.Fields{"verdict": rec.Timing.Verdict, "repins": rec.Repins})
	if rec.Timing.MarginMs != 0 {
		log = log.WithField("marginMs", rec.Timing.MarginMs)
	}
	switch rec.Timing.Verdict {
	case record.InTime:
		log.Info("sandbox started with its gateways pinned")
	case record.Nothing:
		log.Info("sandbox started; it has no gateway that could be pinned")
	case record.Unproven:
		log.Info("sandbox has started; nothing shows whether it was pinned in time")
	default:
		log.Warn("sandbox started before its gateways were pinned")
	}
}

func (l *Log) store(log logrus.FieldLogger, err error) {
	if err != nil {
		log.Warn("containerd's sandbox store does not answer as it should: what it does not tell has no early path; NRI still serves")
		return
	}
	log.Info("containerd's sandbox store answers: new sandboxes with a record in it are pinned before their runtime reads the namespace")
}

// unowned tells of a namespace that no sandbox claims: loudly once, since it is
// what containerd 1.7 shows for every pod.
func (l *Log) unowned(log logrus.FieldLogger) {
	l.mu.Lock()
	first := !l.unidentified
	l.unidentified = true
	l.mu.Unlock()
	if first {
		log.Warn("namespace has no owner in containerd's sandbox store: not a pod's, or containerd keeps no such records (before 2.0), and then only NRI serves; said once")
		return
	}
	log.Debug("namespace has no owner in containerd's sandbox store")
}

func (l *Log) mayTellRecord() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.recordSaid) < recordQuiet {
		return false
	}
	l.recordSaid = time.Now()
	return true
}

// mayTellChange bounds what is told of one sandbox's changes; last says once that
// there is more. The records and the metrics go on counting.
func (l *Log) mayTellChange(event record.Event) (may, last bool) {
	id, lines := event.Record.ID, 1
	l.mu.Lock()
	defer l.mu.Unlock()
	switch event.Kind {
	case record.KindReleased:
		delete(l.told, id)
		return true, false
	case record.KindRepinned, record.KindFailed, record.KindHostState:
	case record.KindWithdrawn, record.KindStale, record.KindFresh, record.KindInsists, record.KindConflict, record.KindSilent:
		lines = max(1, len(event.Changes))
	default:
		return true, false
	}
	now, told := time.Now(), l.told[id]
	if back := int(now.Sub(told.at) / chatterPause); back > 0 {
		told.lines, told.at = max(0, told.lines-back), now
		told.said = told.said && told.lines > 0
	}
	if may = told.lines < chatter; may {
		told.lines += lines
	}
	last = told.lines >= chatter && !told.said
	told.said = told.said || last
	if l.told == nil {
		l.told = make(map[string]telling)
	}
	l.told[id] = told
	l.sweep(now)
	return may, last
}

// sweep lets go of what has been told so long ago that it does not count any more: some
// sandboxes end without a word, or have one more said of them after their end. It looks
// when there are twice as many as were left last time.
func (l *Log) sweep(now time.Time) {
	const few = 256
	if len(l.told) < max(few, l.sweepAt) {
		return
	}
	for id, told := range l.told {
		if now.Sub(told.at) >= chatter*chatterPause {
			delete(l.told, id)
		}
	}
	l.sweepAt = 2 * len(l.told)
}

// podFields are what every line about a sandbox carries. Names come from the
// cluster's users; both formatters of logrus quote them.
func podFields(rec record.Record) logrus.Fields {
	fields := logrus.Fields{"pod": rec.Namespace + "/" + rec.Name, "sandbox": rec.ID, "handler": rec.Handler}
	if len(rec.Neighbors) > 0 {
		var gateways, sources []string
		for _, n := range rec.Neighbors {
			sources = append(sources, string(n.Source))
			gateways = append(gateways, fmt.Sprintf("%s lladdr %s dev %s (%s)", n.Dst, n.LLAddr, n.Dev, n.Source))
		}
		slices.Sort(sources)
		fields["gateways"], fields["source"] = strings.Join(gateways, ", "), strings.Join(slices.Compact(sources), ",")
	}
	if len(rec.Skipped) > 0 {
		var skipped []string
		for _, s := range rec.Skipped {
			skipped = append(skipped, fmt.Sprintf("%s dev %s: %s", s.Dst, s.Dev, s.Reason))
		}
		fields["skipped"] = strings.Join(skipped, ", ")
	}
	return fields
}

// hostState writes one line for each thing that others left on the host.
func hostState(log logrus.FieldLogger, event record.Event) {
	if event.Err != nil {
		log.Warn("the host's state for the pod's addresses could not be looked at or changed")
	}
	if event.Record.HostState == nil {
		return
	}
	for _, f := range event.Record.HostState.Finds {
		log := log.WithField("left", f.String())
		switch {
		case f.Removed:
			log.WithField("restore", f.Restore).Warn("removed from the host what led the pod's address to nobody")
		case f.Keeps != "":
			log.WithField("keeps", f.Keeps).Warn("the host leads the pod's address to nobody, and that is not removed")
		default:
			log.Warn("the host leads the pod's address to nobody (hostState: clean would remove that)")
		}
	}
}
