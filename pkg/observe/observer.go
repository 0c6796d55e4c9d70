// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// What is observed at most: links, links of one sandbox, and addresses of all.
const (
	maxEnds      = 4096
	maxEndsOfOne = 8
	maxTargets   = 16384
	unusedLink   = math.MaxInt32 // a number that no link has
)

var (
	errTooMany  = fmt.Errorf("more than %d links would have to be observed", maxEnds)
	errTooWide  = fmt.Errorf("it has more than %d links; the others are not observed", maxEndsOfOne)
	errNotOwner = errors.New("the link came to be another's while it was attached to")
)

// Counts are questions that were counted: for pinned gateways, and for anything
// else.
type Counts struct{ Gateways, Others uint64 }

func (c Counts) plus(other Counts) Counts {
	return Counts{c.Gateways + other.Gateways, c.Others + other.Others}
}

// Observer counts for any number of sandboxes. Its methods are safe for concurrent
// use. It holds three descriptors, and one for each link that is observed.
type Observer struct {
	program         *ebpf.Program
	counts, targets *ebpf.Map

	mu      sync.Mutex // guards the following
	closed  bool
	watched map[string]*watched // by the sandbox's id
	ends    int                 // of all together
	gone    Counts              // of those that are forgotten
}

// watched is one sandbox.
type watched struct {
	since time.Time
	past  Counts // of links that are not observed any more
	ends  map[int]*end
}

// end is one link on the host: the other end of one of the sandbox's.
type end struct {
	index   int
	link    link.Link
	targets map[netip.Addr]bool
}

// New loads the program. It needs CAP_BPF and CAP_NET_ADMIN, and Linux 6.6: the
// error wraps fs.ErrPermission or ebpf.ErrNotSupported otherwise.
func New() (*Observer, error) {
	o := &Observer{watched: make(map[string]*watched)}
	if err := o.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("load the program that observes: %w", err), o.Close())
	}
	return o, nil
}

func (o *Observer) load() (err error) {
	if o.counts, err = ebpf.NewMap(countsSpec()); err != nil {
		return err
	}
	if o.targets, err = ebpf.NewMap(targetsSpec()); err != nil {
		return err
	}
	if o.program, err = ebpf.NewProgram(programSpec(o.counts, o.targets)); err != nil {
		return err
	}
	// What an older kernel says to this is not that there is no such link.
	_, err = o.attach(unusedLink)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// attach attaches to a link's ingress, before everything that is there: a program
// that answers in the kernel's place ends the way of a question.
func (o *Observer) attach(index int) (link.Link, error) {
	return link.AttachTCX(link.TCXOptions{Interface: index, Program: o.program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
}

// Observe begins to count for a sandbox, or goes on with other links or addresses.
// ends are the other ends of the sandbox's links, by their numbers on the host, and
// for each the addresses that are told from the others: true for a pinned gateway,
// false for one whose questions are not to be counted. leads tells whether a link
// is still one that leads into the sandbox: it is asked before a link is attached
// to and after. A link that is observed stays so until it is gone, or the sandbox
// is forgotten. The error is about what could not be observed.
func (o *Observer) Observe(id string, ends map[int]map[netip.Addr]bool, leads func(end int) (bool, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return fs.ErrClosed
	}
	w := o.watched[id]
	if w == nil {
		w = &watched{ends: make(map[int]*end)}
		o.watched[id] = w
	}
	for _, e := range w.ends {
		if !e.attached() {
			o.drop(w, e)
		}
	}
	var errs []error
	for index, targets := range ends {
		if err := o.observe(w, index, targets, leads); err != nil {
			errs = append(errs, fmt.Errorf("observe link %d: %w", index, err))
		}
	}
	if len(w.ends) == 0 && w.past == (Counts{}) {
		delete(o.watched, id)
	}
	return errors.Join(errs...)
}

// observe sees to one link.
func (o *Observer) observe(w *watched, index int, targets map[netip.Addr]bool, leads func(int) (bool, error)) error {
	if e := w.ends[index]; e != nil {
		if err := o.retarget(e, targets); err != nil {
			return err
		}
		if e.first() {
			return nil
		}
		// Another has put itself before us since. The same program cannot be
		// there twice.
		if err := e.link.Close(); err != nil {
			return err
		}
		return o.join(w, e, leads)
	}
	if len(w.ends) >= maxEndsOfOne {
		return errTooWide
	}
	if o.ends >= maxEnds {
		return errTooMany
	}
	if ok, err := leads(index); err != nil || !ok {
		return err // a number of old: what is true now is told as soon as it is known
	}
	// Its number is this sandbox's now, so that another that had it has lost it.
	for _, other := range o.watched {
		if e := other.ends[index]; e != nil {
			o.drop(other, e)
		}
	}
	e := &end{index: index, targets: make(map[netip.Addr]bool)}
	w.ends[index] = e
	o.ends++
	err := o.counts.Put(uint32(index), make([]byte, 16))
	if err == nil {
		err = o.retarget(e, targets)
	}
	if err == nil {
		return o.join(w, e, leads)
	}
	o.drop(w, e)
	return err
}

// join attaches to a link and makes sure that it is the right one: it is attached
// to what has the number, before and after that was seen to be the sandbox's.
func (o *Observer) join(w *watched, e *end, leads func(int) (bool, error)) (err error) {
	if e.link, err = o.attach(e.index); err == nil {
		var ok bool
		if ok, err = leads(e.index); err == nil && (!ok || !e.attached()) {
			err = errNotOwner
		}
	}
	if err != nil {
		o.drop(w, e)
		return err
	}
	if w.since.IsZero() {
		w.since = time.Now().UTC()
	}
	return nil
}

// retarget makes the kernel's map say what is to be told from the rest.
func (o *Observer) retarget(e *end, targets map[netip.Addr]bool) error {
	for addr := range e.targets {
		if _, ok := targets[addr]; !ok {
			if err := o.targets.Delete(targetKey(e.index, addr)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return err
			}
			delete(e.targets, addr)
		}
	}
	for addr, pinned := range targets {
		if was, ok := e.targets[addr]; ok && was == pinned {
			continue
		}
		value := ownQuestion
		if pinned {
			value = pinnedGateway
		}
		if err := o.targets.Put(targetKey(e.index, addr), value); err != nil {
			return fmt.Errorf("tell %s from the rest: %w", addr, err)
		}
		e.targets[addr] = pinned
	}
	return nil
}

func targetKey(index int, addr netip.Addr) []byte {
	as16 := addr.As16()
	return append(binary.NativeEndian.AppendUint32(nil, uint32(index)), as16[:]...)
}

// attached tells whether the link that was attached to is still there and has its
// number. A link that is removed takes the attachment away, and the descriptor
// tells of it (kernel/bpf/tcx.c, tcx_link_fill_info).
func (e *end) attached() bool {
	if e.link == nil {
		return false
	}
	info, err := e.link.Info()
	if err != nil {
		return false
	}
	tcx := info.TCX()
	return tcx != nil && int(tcx.Ifindex) == e.index
}

// first tells whether nothing sees a frame before us. If that cannot be asked, it
// is taken for granted.
func (e *end) first() bool {
	info, err := e.link.Info()
	if err != nil {
		return true
	}
	there, err := link.QueryPrograms(link.QueryOptions{Target: e.index, Attach: ebpf.AttachTCXIngress})
	if err != nil || len(there.Programs) == 0 {
		return true
	}
	id, ok := there.Programs[0].LinkID()
	return ok && id == info.ID
}

// drop ends the counting at a link and keeps what was counted.
func (o *Observer) drop(w *watched, e *end) {
	if e.link != nil {
		_ = e.link.Close() // closed or gone already, which is what is wanted
	}
	w.past = w.past.plus(o.read(e.index))
	_ = o.counts.Delete(uint32(e.index))
	for addr := range e.targets {
		_ = o.targets.Delete(targetKey(e.index, addr))
	}
	delete(w.ends, e.index)
	o.ends--
}

// read reads what was counted at a link; nothing, if that cannot be read.
func (o *Observer) read(index int) Counts {
	var value [16]byte
	if err := o.counts.Lookup(uint32(index), value[:]); err != nil {
		return Counts{}
	}
	return Counts{Gateways: binary.NativeEndian.Uint64(value[:8]), Others: binary.NativeEndian.Uint64(value[8:])}
}

func (o *Observer) sum(w *watched) Counts {
	counts := w.past
	for index := range w.ends {
		counts = counts.plus(o.read(index))
	}
	return counts
}

// Forget ends the counting for a sandbox. One that is not known is no matter.
func (o *Observer) Forget(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w := o.watched[id]; w != nil {
		o.forget(id, w)
	}
}

func (o *Observer) forget(id string, w *watched) {
	for _, e := range w.ends {
		o.drop(w, e)
	}
	o.gone = o.gone.plus(w.past)
	delete(o.watched, id)
}

// Observed is what was counted for a sandbox: for pinned gateways and for anything
// else, since when. The time is zero for one that is not observed.
func (o *Observer) Observed(id string) (gateways, others uint64, since time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.watched[id]
	if w == nil {
		return 0, 0, time.Time{}
	}
	counts := o.sum(w)
	return counts.Gateways, counts.Others, w.since
}

// Totals is what was counted for all sandboxes together, those that are gone
// included.
func (o *Observer) Totals() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := o.gone
	for _, w := range o.watched {
		counts = counts.plus(o.sum(w))
	}
	return counts
}

// Close ends all counting; nothing of it stays in the kernel. It may be called more
// than once.
func (o *Observer) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	for id, w := range o.watched {
		o.forget(id, w)
	}
	var errs []error
	if o.program != nil {
		errs = append(errs, o.program.Close())
	}
	for _, m := range []*ebpf.Map{o.counts, o.targets} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
