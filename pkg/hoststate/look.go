// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/internal/rtnetlink"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// Kinds of finds.
const (
	// KindNeighbor: an entry of the host's neighbor tables.
	KindNeighbor = "neighbor"
	// KindRule: a rule of nftables' bridge family, as ebtables-nft or nft wrote it.
	KindRule = "rule"
)

// Find is something on the host that leads what is for a pod's address to nobody.
type Find struct {
	Kind string `json:"kind"`
	// Dst is the pod's address, and LLAddr the link-layer address that is not the
	// pod's and that nobody has.
	Dst    netip.Addr            `json:"dst"`
	LLAddr neighbor.HardwareAddr `json:"lladdr"`
	// Dev, State and Protocol are a neighbor entry's.
	Dev      string   `json:"dev,omitempty"`
	State    []string `json:"state,omitempty"`
	Protocol uint8    `json:"protocol,omitempty"`
	// Table, Chain, Handle and Rule are a rule's.
	Table  string `json:"table,omitempty"`
	Chain  string `json:"chain,omitempty"`
	Handle uint64 `json:"handle,omitempty"`
	Rule   string `json:"rule,omitempty"`
	// Keeps says why Clean leaves it alone; empty when it does not.
	Keeps string `json:"keeps,omitempty"`
	// Restore is the command that puts it back, in the order of the finds.
	Restore string `json:"restore,omitempty"`
	// Removed says that Clean has removed it.
	Removed bool `json:"removed,omitempty"`
}

// String is one line on it.
func (f Find) String() string {
	if f.Kind == KindNeighbor {
		return fmt.Sprintf("neighbor %s lladdr %s dev %s %v", f.Dst, f.LLAddr, f.Dev, f.State)
	}
	return fmt.Sprintf("rule bridge %s %s handle %d: %s", f.Table, f.Chain, f.Handle, f.Rule)
}

// Report is what Look and Clean found.
type Report struct {
	Finds []Find `json:"finds"`
	// Unread is what could not be looked at, with the reason.
	Unread []string `json:"unread,omitempty"`
}

// Address is an address whose traces are looked for. LLAddr empty: whose it is,
// nobody knows. End zero: where it is, nobody knows.
type Address = neighbor.Address

// Look finds what others left on the host for the addresses, and changes nothing.
func Look(ctx context.Context, addresses []Address) (Report, error) {
	s, err := newSurvey(ctx, addresses)
	if err != nil {
		return Report{}, fmt.Errorf("look at the host's state: %w", err)
	}
	s.close()
	return s.report, nil
}

// attempts is how often Clean looks again when the rules change meanwhile.
const attempts = 5

// Clean removes what Look finds: rules in one transaction, all or none, and then
// entries. What it removed is in the report also when it returns an error.
func Clean(ctx context.Context, addresses []Address) (report Report, err error) {
	for range attempts {
		if report, err = clean(ctx, addresses); !errors.Is(err, errMoved) {
			break
		}
	}
	if err != nil {
		return report, fmt.Errorf("clean the host's state: %w", err)
	}
	return report, nil
}

// clean is one attempt.
func clean(ctx context.Context, addresses []Address) (Report, error) {
	s, err := newSurvey(ctx, addresses)
	if err != nil {
		return Report{}, err
	}
	defer s.close()
	err = s.clean(ctx)
	return s.report, err
}

// survey is one look at the host.
type survey struct {
	host       *host      // nil where there is nothing to look for
	filter     *netfilter // nil also where the kernel has no nftables
	generation []byte     // of the rules that were read
	addresses  []Address
	ips        []netip.Addr
	links      map[int]rtnetlink.Link
	entries    []rtnetlink.Entry // as Report.Finds of kind neighbor
	rules      []rule            // as Report.Finds of kind rule
	report     Report
}

// newSurvey looks at the host. Without an error the survey is to be closed.
func newSurvey(ctx context.Context, addresses []Address) (s *survey, err error) {
	s = &survey{report: Report{Finds: []Find{}}}
	for _, a := range addresses {
		// A link-local address is another on every link.
		if a.Addr.IsValid() && !a.Addr.IsLinkLocalUnicast() {
			s.addresses, s.ips = append(s.addresses, a), append(s.ips, a.Addr)
		}
	}
	if len(s.ips) == 0 {
		return s, nil
	}
	if s.host, err = openHost(); err != nil {
		return nil, err
	}
	all, err := s.read(ctx)
	if err == nil {
		err = s.judge(ctx, all)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *survey) close() {
	if s.filter != nil {
		_ = s.filter.Close()
	}
	if s.host != nil {
		s.host.close()
	}
}

// read reads the host's state, and returns the rules of it.
func (s *survey) read(ctx context.Context) (all []rule, err error) {
	if s.entries, err = s.host.entries(ctx, s.ips); err != nil {
		return nil, err
	}
	// Links tell what an entry means. The host has one or two for each pod, and this is
	// done for each that starts, of which most have no entry: then nobody asks.
	if len(s.entries) > 0 {
		if s.links, err = s.host.links(ctx); err != nil {
			return nil, err
		}
	}
	s.report.Unread = legacyTables(sysModule)
	all, err = s.readRules(ctx)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return nil, nil // a kernel without nftables has no rules of it
	case err != nil && ctx.Err() == nil && !errors.Is(err, errMoved):
		s.report.Unread = append(s.report.Unread, "rules of the bridge family: "+err.Error())
		return nil, nil
	}
	return all, err
}

// readRules reads the rules of the bridge family, and keeps what removes some of them.
func (s *survey) readRules(ctx context.Context) ([]rule, error) {
	filter, err := openNetfilter()
	if err != nil {
		return nil, err
	}
	generation, err := filter.generation(ctx)
	if err != nil {
		return nil, errors.Join(err, filter.Close())
	}
	all, err := filter.rules(ctx)
	if err != nil {
		return nil, errors.Join(err, filter.Close())
	}
	s.filter, s.generation = filter, generation
	return all, nil
}

const sysModule = "/sys/module"

// legacyTables says which tables of legacy ebtables the kernel has loaded. They have
// an interface of their own, asking by which has the kernel load the table's module
// where it is not loaded (net/bridge/netfilter/ebtables.c, find_table_lock): so they
// are told of and not read.
func legacyTables(modules string) (unread []string) {
	for _, table := range []string{"nat", "filter", "broute"} {
		if _, err := os.Stat(filepath.Join(modules, "ebtable_"+table)); err == nil {
			unread = append(unread, "table "+table+" of legacy ebtables: not read; see ebtables-legacy -t "+table+" -L")
		}
	}
	return unread
}

// judge turns what was read into finds.
func (s *survey) judge(ctx context.Context, all []rule) error {
	entries, err := s.suspects(ctx)
	if err != nil {
		return err
	}
	var macs []neighbor.HardwareAddr
	for _, e := range entries {
		macs = append(macs, macOf(e))
	}
	var rules []rule
	for _, r := range all {
		if s.about(r) {
			rules = append(rules, r)
			macs = append(macs, r.gives...)
		}
	}
	if len(macs) == 0 {
		return nil
	}
	claims, err := s.host.claims(ctx, macs)
	if err != nil {
		return err
	}
	for _, r := range all { // frames to such an address are taken by a rule
		for _, mac := range r.takes {
			claims[mac] = "a rule for frames to it"
		}
	}
	entries = slices.DeleteFunc(entries, func(e rtnetlink.Entry) bool { return claims[macOf(e)] != "" })
	rules = slices.DeleteFunc(rules, func(r rule) bool {
		return slices.ContainsFunc(r.gives, func(mac neighbor.HardwareAddr) bool { return claims[mac] != "" })
	})
	s.entries, s.rules = entries, rules
	for _, e := range entries {
		s.report.Finds = append(s.report.Finds, s.entryFind(e))
	}
	for _, r := range rules {
		s.report.Finds = append(s.report.Finds, s.ruleFind(r, all))
	}
	return nil
}

// is tells whether an address is one of those, and the link-layer address one that
// it is known to have.
func (s *survey) is(ip netip.Addr, mac neighbor.HardwareAddr) bool {
	return slices.ContainsFunc(s.addresses, func(a Address) bool { return a.Addr == ip && a.LLAddr == mac })
}

// about tells whether a rule leads one of the addresses, each word of its own, to a
// link-layer address that is not the pod's.
func (s *survey) about(r rule) bool {
	return slices.ContainsFunc(r.names, func(ip netip.Addr) bool {
		return slices.Contains(s.ips, ip) && slices.ContainsFunc(r.gives, func(mac neighbor.HardwareAddr) bool { return !s.is(ip, mac) })
	})
}

// suspects are the entries that are not the pod's: on the link over which the host
// reaches the address, if that leads to the pod, any; on other links permanent ones
// where nobody beyond this host can be. Where the host has more than one way to the
// address (see routeTo), entries that are not permanent are looked at on one of them:
// less is found then.
func (s *survey) suspects(ctx context.Context) (list []rtnetlink.Entry, err error) {
	ways := make(map[netip.Addr]int)
	for _, e := range s.entries {
		if _, known := ways[e.Dst]; !known {
			if ways[e.Dst], err = s.host.routeTo(ctx, e.Dst); err != nil {
				return nil, err
			}
		}
		onTheWay := ways[e.Dst] == e.Index && s.leadsTo(e.Dst, e.Index)
		if !s.is(e.Dst, macOf(e)) && (onTheWay || e.Permanent() && s.closed(e.Index)) {
			list = append(list, e)
		}
	}
	return list, nil
}

// leadsTo tells whether a link of the host is where the pod with an address is: the
// other end of its link, that end's master, or a link upon that. Of which VLAN each of
// these is, it does not ask: that the host reaches the address over the link is taken
// for the answer. It is the wrong one where two VLANs of one bridge use the same
// address and rules send packets with a mark alone to the pod's: an entry for the
// other's machine is a find then, once the bridge has forgotten that machine.
func (s *survey) leadsTo(ip netip.Addr, index int) bool {
	l := s.links[index]
	return slices.ContainsFunc(s.addresses, func(a Address) bool {
		if a.Addr != ip || a.End == 0 {
			return false
		}
		master := s.links[a.End].Master
		return a.End == index || master != 0 && (master == index || !l.HasNSID && l.Other == master || l.Pair() && !l.HasNSID && s.links[l.Other].Master == master)
	})
}

// closed tells whether nobody beyond this host can be on a link: a pair, or a bridge
// all of whose ports are ends of pairs or of virtual machines.
func (s *survey) closed(index int) bool {
	l := s.links[index]
	if l.Kind != rtnetlink.KindBridge {
		return l.Pair() && l.Master == 0
	}
	for _, port := range s.links {
		if port.Master == index && !port.Pair() && port.Kind != "tun" {
			return false
		}
	}
	return true
}

func (s *survey) entryFind(e rtnetlink.Entry) Find {
	f := Find{Kind: KindNeighbor, Dst: e.Dst, LLAddr: macOf(e), Dev: s.links[e.Index].Name, State: e.States(), Protocol: e.Protocol}
	state := "stale"
	if e.Permanent() {
		state = "permanent"
	}
	f.Restore = fmt.Sprintf("ip neighbor replace %s lladdr %s dev %s nud %s", e.Dst, macOf(e), shell(f.Dev), state)
	if e.Protocol != 0 {
		f.Restore += fmt.Sprintf(" protocol %d", e.Protocol)
	}
	return f
}

func (s *survey) ruleFind(r rule, all []rule) Find {
	f := Find{Kind: KindRule, Table: r.table, Chain: r.chain, Handle: r.handle, Rule: r.String(), LLAddr: r.gives[0]}
	for _, ip := range r.names {
		if slices.Contains(s.ips, ip) {
			f.Dst = ip
		}
	}
	if len(r.unknown) > 0 {
		f.Keeps = "the rule has words that neighpin does not know"
		return f
	}
	last := !slices.ContainsFunc(all, func(other rule) bool {
		return other.table == r.table && other.chain == r.chain && other.place > r.place && !s.goes(other)
	})
	f.Restore = r.restore(last)
	return f
}

// goes tells whether a rule is to be removed.
func (s *survey) goes(r rule) bool {
	return len(r.unknown) == 0 && slices.ContainsFunc(s.rules, func(o rule) bool { return o.table == r.table && o.handle == r.handle })
}

// clean removes the finds and notes which.
func (s *survey) clean(ctx context.Context) error {
	var going []rule
	for _, r := range s.rules {
		if s.goes(r) {
			going = append(going, r)
		}
	}
	if len(going) > 0 {
		if err := s.filter.remove(ctx, s.generation, going); err != nil {
			return err
		}
	}
	var errs []error
	for i := range s.report.Finds {
		f := &s.report.Finds[i]
		if f.Kind == KindRule {
			f.Removed = f.Keeps == ""
			continue
		}
		removed, err := s.host.remove(ctx, s.entries[i]) // entries come first
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", f, err))
		}
		f.Removed = removed
	}
	return errors.Join(errs...)
}
