// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
)

// subject is a container and the namespace that is its network.
type subject struct {
	id   string
	path string // of the namespace
	spec *spec
	// sandbox is the sandbox's id, where that is another one than the container's.
	sandbox string
	// running tells that programs may run in the namespace already, whose entries
	// are nobody's truth.
	running bool
}

// name is what the container is called in messages.
func (s subject) name() string {
	if namespace, pod := s.spec.word(podNamespace), s.spec.word(podName); namespace != "" && pod != "" {
		return "pod " + namespace + "/" + pod
	}
	return fmt.Sprintf("container %.64q", s.id)
}

// recordID is the name of the subject's record: the sandbox's id, by which the
// daemon knows it, too, or the container's own.
func (s subject) recordID(cookie uint64) string {
	for _, id := range []string{s.sandbox, s.id} {
		if plain(id) && len(id) <= 128 {
			return id
		}
	}
	return record.ByHandID(cookie)
}

// plain tells whether a text is made of what ids and names of Kubernetes are made
// of, and can be a file's name.
func plain(id string) bool {
	return len(id) <= 253 && regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`).MatchString(id)
}

// refusal says why a container may not start under enforce.
type refusal struct {
	subject subject
	missing []neighbor.Skipped
}

func (r *refusal) Error() string {
	var gateways []string
	for _, s := range r.missing {
		text := string(s.Reason)
		if s.Message != "" {
			text += ": " + s.Message
		}
		if s.Dst.IsValid() {
			text = fmt.Sprintf("gateway %s on %s is not pinned: %s", s.Dst, s.Dev, text)
		}
		gateways = append(gateways, text)
	}
	return fmt.Sprintf("%s refused (enforce): %s", r.subject.name(), strings.Join(gateways, "; "))
}

// pin pins the gateways of the subject's namespace and records that. What the
// bundle's annotation says of gateways that the host knows nothing about is used
// where apply is given. An error, which may be a *refusal, does not mean that
// nothing was pinned: the record says what was. The record is empty for the
// host's namespace, which is left alone.
func (w *worker) pin(ctx context.Context, s subject, apply *annotation.Annotation) (record.Record, error) {
	table, err := neighbor.OpenAt(w.host, s.path)
	if errors.Is(err, netns.ErrHost) {
		w.say.warn("nothing is pinned for %s: %v", s.name(), err)
		return record.Record{}, nil
	}
	if err != nil {
		return record.Record{}, err
	}
	defer func() { _ = table.Close() }()

	old, recorded, running := w.recorded(s, table.Cookie())
	found, err := table.Resolve(ctx, neighbor.Query{Known: old.Neighbors, Limit: w.MaxNeighbors, Running: running})
	if err != nil {
		return record.Record{}, err
	}
	if found.HandedOver {
		// Taken before, as by a container that was there before this one.
		err = fmt.Errorf("nothing is pinned for %s: a runtime has taken the addresses and routes of %s", s.name(), s.path)
		if !lacks(old) {
			w.say.warn("%v", err)
			err = nil
		}
		return old, err
	}
	found = applied(found, apply)
	written, err := table.Write(ctx, found)
	rec := w.record(s, table.Cookie(), written)
	if !recorded || !slices.EqualFunc(old.Neighbors, written.Neighbors, neighbor.Neighbor.Same) {
		w.save(rec)
	}
	missing := slices.DeleteFunc(slices.Clone(written.Skipped), func(s neighbor.Skipped) bool { return !s.Reason.NoTruth() })
	if len(missing) > 0 {
		// Says more than the kernel's error, if there is one, which it has.
		return rec, &refusal{subject: s, missing: missing}
	}
	return rec, err
}

// applied gives the gateways that the host knows nothing about the addresses
// that an annotation has for them. It cannot add a gateway, nor change one that
// is known here: the annotation comes from outside.
func applied(found neighbor.Resolution, a *annotation.Annotation) neighbor.Resolution {
	if a == nil {
		return found
	}
	var skipped []neighbor.Skipped
	for _, s := range found.Skipped {
		at := slices.IndexFunc(a.Neighbors, func(e annotation.Entry) bool { return e.Dst == s.Dst && e.Dev == s.Dev })
		if at < 0 || !unknown(s.Reason) {
			skipped = append(skipped, s)
			continue
		}
		source := neighbor.Source(a.Neighbors[at].Source)
		if source == neighbor.SourceExisting {
			// It is not here yet, and will be ours.
			source = neighbor.SourceLearned
		}
		found.Neighbors = append(found.Neighbors, neighbor.Neighbor{
			Dst: s.Dst, Dev: s.Dev, LLAddr: neighbor.HardwareAddr(a.Neighbors[at].LLAddr), Family: neighbor.FamilyOf(s.Dst), Source: source,
		})
	}
	found.Skipped = skipped
	return found
}

// unknown tells whether a reason means that the host knows nothing, and nothing
// speaks against another source.
func unknown(r neighbor.Reason) bool {
	switch r {
	case neighbor.ReasonPeerInSandbox, neighbor.ReasonPeerGone, neighbor.ReasonPeerElsewhere:
		return true
	}
	return r.Learnable()
}

// recorded is what the state directory says of the very same namespace, whoever
// pinned there before: this wrapper, the daemon, or somebody by hand. It is the
// subject's own record, or that of another who began there before: then programs
// may run there.
func (w *worker) recorded(s subject, cookie uint64) (rec record.Record, own, running bool) {
	if w.records == nil {
		return record.Record{}, false, s.running
	}
	for _, id := range []string{s.recordID(cookie), record.ByHandID(cookie)} {
		if rec, err := w.records.Load(id); err == nil && rec.NetNS.Cookie == cookie {
			return rec, rec.ID == s.recordID(cookie), s.running
		}
	}
	if byContainerd, byCRIO := s.spec.managed(); byContainerd != byCRIO {
		return record.Record{}, false, s.running // its engine says that nobody was there
	}
	// Records that cannot be read are of others.
	if all, _ := w.records.ByCookie(cookie); len(all) > 0 {
		return all[0], false, true
	}
	return record.Record{}, false, s.running
}

// record is what the subject's record says if nobody else keeps one.
func (w *worker) record(s subject, cookie uint64, written neighbor.Written) record.Record {
	now := time.Now().UTC()
	rec := record.Record{
		ID:   s.recordID(cookie),
		Name: s.spec.word(podName), Namespace: s.spec.word(podNamespace), UID: s.spec.word(podUID),
		Handler: s.spec.word(podHandler),
		NetNS:   record.NetNS{Path: s.path, Cookie: cookie}, Phase: record.Started,
		Neighbors: written.Neighbors, Skipped: written.Skipped, CapturedAt: now, Annotated: w.Annotate,
		// In line, before the runtime ran: but nobody watches the pins from here
		// until it reads them.
		Timing: record.Timing{Verdict: record.Unproven, PinnedAt: now},
	}
	if len(rec.Neighbors) == 0 {
		rec.Timing = record.Timing{Verdict: record.Nothing}
	}
	return rec
}

// save records the pins. What the daemon, or this wrapper before, says of the
// same sandbox stays, but for the neighbors. The record of another namespace that
// is still there stays as it is: not every engine keeps its users from naming
// another's sandbox.
func (w *worker) save(rec record.Record) {
	if w.records == nil {
		return
	}
	others := false
	err := w.records.Merge(rec, func(old, rec record.Record) record.Record {
		if old.NetNS.Cookie != rec.NetNS.Cookie {
			if others = netns.Exists(old.NetNS.Path, old.NetNS.Cookie); others {
				return old
			}
			return rec
		}
		old.Neighbors, old.Skipped, old.CapturedAt = rec.Neighbors, rec.Skipped, rec.CapturedAt
		old.Annotated = old.Annotated || rec.Annotated
		return old
	})
	if others {
		w.say.warn("no record is kept: that of %s is another namespace's, which is still there", rec.ID)
	}
	if err != nil {
		w.say.warn("%v", err)
	}
}

// attend pins for the container that its namespace belongs to, and looks up what
// stands there for one that joins. The record is empty where nothing is known.
func (w *worker) attend(ctx context.Context, s subject, apply *annotation.Annotation) (record.Record, error) {
	is, id := s.spec.role()
	if is == roleOwn {
		return w.pin(ctx, s, apply)
	}
	rec, found, err := w.sandboxRecord(s, id)
	again := w.Enforce && lacks(rec)
	if err != nil || is == roleJoins || found && !again {
		return rec, err
	}
	s.sandbox = id
	if found {
		// A record is no pin: the container that it was made for may have been
		// refused, or a daemon made it, which need not enforce anything.
		s.sandbox, s.running = rec.ID, true
	}
	// Its sandbox may never be deleted by way of a runtime.
	w.sweep(ctx)
	return w.pin(ctx, s, apply)
}

// lacks tells whether a sandbox has gateways that are not pinned, or may have. One
// on the host's network has none.
func lacks(rec record.Record) bool {
	return rec.NetNS.Cookie != 0 && (rec.CapturedAt.IsZero() ||
		slices.ContainsFunc(rec.Skipped, func(s neighbor.Skipped) bool { return s.Reason.NoTruth() }))
}

// sandboxRecord is the record of the sandbox that a container joins. It is found,
// and empty, for a sandbox on the host's network.
func (w *worker) sandboxRecord(s subject, id string) (rec record.Record, found bool, err error) {
	ns, err := w.host.Open(s.path)
	if errors.Is(err, netns.ErrHost) {
		// Containers join that by the path of their sandbox's process.
		return rec, true, nil
	}
	if err != nil {
		return rec, false, err
	}
	_ = ns.Close()
	if w.records == nil {
		return rec, false, nil
	}
	if rec, err := w.records.Load(id); err == nil && rec.NetNS.Cookie == ns.Cookie() {
		return rec, true, nil
	}
	// Records that cannot be read are of others.
	all, _ := w.records.ByCookie(ns.Cookie())
	if len(all) == 0 {
		return rec, false, nil
	}
	return all[0], true, nil
}

// sweep removes the records of sandboxes that are gone.
func (w *worker) sweep(ctx context.Context) {
	if w.records == nil {
		return
	}
	paths, _ := filepath.Glob(filepath.Join(w.StateDir, "sandboxes", "*.json"))
	for _, path := range paths {
		rec, err := w.records.Load(strings.TrimSuffix(filepath.Base(path), ".json"))
		if err != nil || !rec.Gone(ctx) {
			continue
		}
		if err := w.records.Delete(rec.ID); err != nil {
			w.say.warn("%v", err)
		}
	}
}

// forget removes the record of a container that is gone.
func (w *worker) forget(id string) error {
	if !plain(id) {
		return nil
	}
	return record.In(w.StateDir).Delete(id)
}
