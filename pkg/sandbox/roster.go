// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"

	"github.com/neighpin/neighpin/pkg/record"
)

// roster is the sandboxes of a node, selected or not, with what they are found by. What
// an event costs must not depend on how many there are, so nothing here goes through
// all of them to find one. Whoever has it guards it.
type roster struct {
	sandboxes map[string]*sandbox // the selected ones, by id
	ignored   map[string]string   // the other ones: id to namespace path
	orphans   map[string]*sandbox // recorded as starting by an earlier process, not met yet
	undecided map[string]struct{} // by id: NRI has told of them, and whether they are selected is not known

	files        byFile[*sandbox] // of sandboxes and orphans
	ignoredFiles byFile[string]   // of ignored, by their ids
	list         []string         // what ids has returned; nil when that has changed
}

func newRoster() roster {
	return roster{
		sandboxes: make(map[string]*sandbox), ignored: make(map[string]string), orphans: make(map[string]*sandbox),
		undecided: make(map[string]struct{}),
		files:     newByFile[*sandbox](), ignoredFiles: newByFile[string](),
	}
}

// maxUndecided bounds the ids that are remembered for want of a decision.
const maxUndecided = 1024

// undecide notes that NRI has told of a sandbox for nothing.
func (r *roster) undecide(id string) {
	if len(r.undecided) < maxUndecided {
		r.undecided[id] = struct{}{}
	}
}

// keep takes a selected sandbox in the place of whatever had its id. That it was
// recorded as starting is over then.
func (r *roster) keep(s *sandbox) {
	delete(r.undecided, s.id.ID)
	if old := r.sandboxes[s.id.ID]; old != nil {
		r.files.remove(old.id.NetNSPath, old)
	}
	r.sandboxes[s.id.ID], r.list = s, nil
	r.met(r.orphans[s.id.ID])
	r.files.add(s.id.NetNSPath, s)
}

// drop lets go of a selected sandbox, and reports whether it was there.
func (r *roster) drop(s *sandbox) bool {
	if r.sandboxes[s.id.ID] != s {
		return false
	}
	delete(r.sandboxes, s.id.ID)
	r.files.remove(s.id.NetNSPath, s)
	r.list = nil
	return true
}

// orphan takes a sandbox that was recorded as starting.
func (r *roster) orphan(s *sandbox) {
	r.orphans[s.id.ID] = s
	r.files.add(s.id.NetNSPath, s)
}

// met lets go of one, and reports whether it was there.
func (r *roster) met(s *sandbox) bool {
	if s == nil || r.orphans[s.id.ID] != s {
		return false
	}
	delete(r.orphans, s.id.ID)
	if r.sandboxes[s.id.ID] != s {
		r.files.remove(s.id.NetNSPath, s)
	}
	return true
}

// pass takes a sandbox that is not selected.
func (r *roster) pass(id, path string) {
	old, there := r.ignored[id]
	if there && old == path {
		return
	}
	r.unpass(id)
	r.ignored[id], r.list = path, nil
	r.ignoredFiles.add(path, id)
}

// unpass lets go of one.
func (r *roster) unpass(id string) {
	if path, ok := r.ignored[id]; ok {
		delete(r.ignored, id)
		r.ignoredFiles.remove(path, id)
		r.list = nil
	}
}

// owned tells that a sandbox, selected or not, is known to have the namespace.
func (r *roster) owned(path string) bool {
	for _, s := range r.files.all(path) {
		if r.sandboxes[s.id.ID] == s {
			return true
		}
	}
	return len(r.ignoredFiles.all(path)) > 0
}

// ids are those of all but orphans. The list is the same one until they change, and
// nobody writes to it.
func (r *roster) ids() []string {
	if r.list == nil {
		r.list = make([]string, 0, len(r.sandboxes)+len(r.ignored))
		for id := range r.sandboxes {
			r.list = append(r.list, id)
		}
		for id := range r.ignored {
			if record.ValidID(id) {
				r.list = append(r.list, id)
			}
		}
	}
	return r.list
}

// byFile finds things by the base name of a namespace's file. These names are random and
// unique on a node; the directory can have several (/var/run is a link to /run) and is
// mounted elsewhere in a container. What the file is, only its cookie says: nearly always
// one thing has it, and what an earlier process left may have it, too.
type byFile[T comparable] struct {
	one  map[string]T
	more map[string][]T // beside that one
}

func newByFile[T comparable]() byFile[T] {
	return byFile[T]{one: make(map[string]T), more: make(map[string][]T)}
}

func (b byFile[T]) add(path string, thing T) {
	if path == "" {
		return
	}
	name := filepath.Base(path)
	if first, ok := b.one[name]; !ok {
		b.one[name] = thing
	} else if first != thing {
		b.more[name] = append(b.more[name], thing)
	}
}

func (b byFile[T]) remove(path string, thing T) {
	if path == "" {
		return
	}
	name := filepath.Base(path)
	var left []T
	for _, other := range b.all(path) {
		if other != thing {
			left = append(left, other)
		}
	}
	delete(b.one, name)
	delete(b.more, name)
	for _, other := range left {
		b.add(path, other)
	}
}

// all are those that have the file, in no order.
func (b byFile[T]) all(path string) []T {
	if path == "" {
		return nil
	}
	name := filepath.Base(path)
	one, ok := b.one[name]
	if !ok {
		return nil
	}
	return append([]T{one}, b.more[name]...)
}
