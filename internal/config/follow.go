// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

const (
	// settleTime is how long after a sign of a change the file is read, and how
	// long it must have been as it is by then: who writes it in place empties it
	// first, and an empty file is a configuration, too.
	settleTime = 100 * time.Millisecond
	// emptyTime is that for an empty file: it is most likely one that is about to be
	// written, by a process that has to wait for its turn.
	emptyTime = 5 * time.Second
	// lookInterval is the time between two looks at the file that nothing has
	// announced: its directory may have been replaced, or be out of inotify's reach.
	lookInterval = time.Minute
)

// Status says which configuration is in force.
type Status struct {
	// File is empty where the configuration is not from a file that is watched.
	File string `json:"file,omitempty"`
	// OK tells that what was read last is in force, as far as it can be without a
	// restart; Error is why it is not.
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// LoadedAt is when the configuration in force was read.
	LoadedAt time.Time `json:"loadedAt"`
	// NeedsRestart are the keys that have changed since the start and count from
	// the next one.
	NeedsRestart []string `json:"needsRestart,omitempty"`
}

// Follower keeps the configuration in force as the file says, for the keys that
// can change while the daemon runs.
type Follower struct {
	source   Loader
	apply    func(Config) error
	log      logrus.FieldLogger
	interval time.Duration
	settle   time.Duration // settleTime and emptyTime
	empty    time.Duration

	current Config // of the goroutine that Follow runs in
	wanted  Config // likewise: what was read last and could be meant

	mu     sync.Mutex // guards the following
	status Status
	shown  Config // current, for others
}

// NewFollower begins with a configuration that is in force. apply puts another in
// its place, whole or not at all.
func NewFollower(source Loader, config Config, apply func(Config) error, log logrus.FieldLogger) *Follower {
	return &Follower{
		source: source, apply: apply, log: log, interval: lookInterval, settle: settleTime, empty: emptyTime,
		current: config, wanted: config, shown: config,
		status: Status{File: source.Path, OK: true, LoadedAt: time.Now().UTC()},
	}
}

// Status says which configuration is in force.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// InForce is the configuration in force.
func (f *Follower) InForce() Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shown
}

// Follow follows the file until the context ends, and reads it at each signal.
// What is watched is its directory: a ConfigMap is replaced there by way of a
// link, and editors put a new file in the old one's place.
func (f *Follower) Follow(ctx context.Context, signals <-chan os.Signal) {
	if !f.watchable() {
		f.answerSignals(ctx, signals)
		return
	}
	var changes <-chan fsnotify.Event
	var faults <-chan error
	dir := filepath.Dir(f.source.Path)
	arm := func() {}
	if notify, err := fsnotify.NewWatcher(); err != nil {
		f.log.WithError(err).Warnf("changes of the configuration are not told by the kernel; it is read every %s, and at SIGHUP", f.interval)
	} else {
		defer func() { _ = notify.Close() }()
		changes, faults = notify.Events, notify.Errors
		arm = func() { _ = notify.Add(dir) } // what is not there may be the next time; until then it is read all the same
	}
	arm()
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	timer := time.NewTimer(0) // what changed before the directory was watched
	defer timer.Stop()
	waits := true // for the timer; put off by no further event, since these may never end
	soon := func() {
		if !waits {
			waits = true
			timer.Reset(f.settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-changes:
			if f.concerns(event) {
				soon()
			}
		case <-faults: // events were lost
			soon()
		case <-ticker.C:
			arm()
			soon()
		case <-timer.C:
			if waits = false; !f.read(noticed) {
				soon()
			}
		case <-signals:
			f.read(asked)
		}
	}
}

// watchable tells that the configuration is a file which can be read again, not
// a pipe or NRI's.
func (f *Follower) watchable() bool {
	info, err := os.Stat(f.source.Path)
	return f.source.Path != "" && (err != nil || info.Mode().IsRegular())
}

// answerSignals is for a daemon without a file.
func (f *Follower) answerSignals(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			f.log.Warn("SIGHUP: there is no configuration file to read again")
		}
	}
}

// concerns tells whether an event may be about the file: its own name, one of the
// names by which the kubelet replaces a volume's content, or the directory itself.
func (f *Follower) concerns(event fsnotify.Event) bool {
	name := filepath.Base(event.Name)
	return name == filepath.Base(f.source.Path) || strings.HasPrefix(name, "..") || event.Name == filepath.Dir(f.source.Path)
}

// look looks at the file. One that cannot be looked at is no file.
func (f *Follower) look() look {
	info, err := os.Stat(f.source.Path)
	if err != nil {
		return look{}
	}
	return look{info: info, at: time.Now()}
}

// look is one look at the file.
type look struct {
	info os.FileInfo
	at   time.Time
}

// settled tells that nobody was writing the file at that moment, as far as its time
// tells. One that is not there is as it is, and so is one from the future.
func (l look) settled(settle, empty time.Duration) bool {
	if l.info == nil {
		return true
	}
	if l.info.Mode().IsRegular() && l.info.Size() == 0 {
		settle = empty
	}
	age := l.at.Sub(l.info.ModTime())
	return age < 0 || age >= settle
}

// same tells that nobody has written the file between two looks.
func (l look) same(other look) bool {
	if l.info == nil || other.info == nil {
		return l.info == other.info
	}
	return os.SameFile(l.info, other.info) && l.info.Size() == other.info.Size() && l.info.ModTime().Equal(other.info.ModTime())
}

// reason is why the file is read.
type reason int

const (
	noticed reason = iota // it seems to have changed, or it is time to look
	asked                 // somebody sent a signal, and waits for a word
)

// read reads the file and puts what it says in force; what cannot be meant leaves
// everything as it is. What was said once is said again only to who asked. It
// returns false when the file was being written, which counts only for who did not.
func (f *Follower) read(why reason) (done bool) {
	before := f.look()
	config, err := f.load()
	quiet := before.settled(f.settle, f.empty) && before.same(f.look()) // however long reading took
	if why != asked && !quiet {
		return false
	}
	if err == nil && why != asked && reflect.DeepEqual(config, f.wanted) && f.Status().OK {
		return true
	}
	f.take(config, err, why)
	return true
}

// take puts a configuration that was read in force, or says why not.
func (f *Follower) take(config Config, err error, why reason) {
	next, later := f.current.with(config)
	if err == nil {
		err = next.Validate()
	}
	if err == nil {
		err = f.apply(next)
	}
	if err != nil {
		f.refuse(err, why)
		return
	}
	changed := differing(f.current, next)
	f.current, f.wanted = next, config
	f.mu.Lock()
	f.shown = next
	f.status.OK, f.status.Error, f.status.NeedsRestart, f.status.LoadedAt = true, "", later, time.Now().UTC()
	f.mu.Unlock()
	log := f.log.WithFields(logrus.Fields{"file": f.source.Path, "changed": changed})
	if len(later) > 0 {
		log.WithField("needsRestart", later).Warn("configuration read again; some keys count from the next start only")
		return
	}
	log.Info("configuration read again, and in force; a changed selection counts for pods that start from now on")
}

// load reads the file as at the start, but waits for nobody.
func (f *Follower) load() (Config, error) {
	info, err := os.Stat(f.source.Path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Config{}, fmt.Errorf("read configuration %s: not a regular file", f.source.Path)
	}
	return f.source.Load("")
}

// refuse says why the configuration that was read is not taken over.
func (f *Follower) refuse(err error, why reason) {
	f.mu.Lock()
	known := f.status.Error == err.Error()
	f.status.OK, f.status.Error = false, err.Error()
	since := f.status.LoadedAt
	f.mu.Unlock()
	if !known || why == asked {
		f.log.WithError(err).Errorf("configuration not taken over: the one that was read at %s stays in force; mend the file, and it is read again by itself", since.Format(time.RFC3339))
	}
}

// with is c with the keys of other that count at once, and the names of those
// that do not. Whose annotation counts depends on whether pods are refused, unless
// it is given: the two change together.
func (c Config) with(other Config) (next Config, later []string) {
	next = c
	next.Handlers, next.Annotate, next.ExcludeNamespaces = other.Handlers, other.Annotate, other.ExcludeNamespaces
	next.LogLevel, next.LogFormat = other.LogLevel, other.LogFormat
	if other.Enforce == c.Enforce {
		next.PodAnnotations = other.PodAnnotations
	}
	return next, differing(next, other)
}

// differing are the keys in which two configurations differ.
func differing(a, b Config) []string {
	keys := []string{}
	other := b.Flags()
	a.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.String() != other.Lookup(f.Name).Value.String() {
			keys = append(keys, Key(f.Name))
		}
	})
	return keys
}
