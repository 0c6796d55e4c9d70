// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// crowdBridge is the bridge of a crowd that has one. crowdLines make it, with the gateways' addresses.
const crowdBridge = "crowd"

const crowdLines = `
link add crowd type bridge
link set crowd address 02:00:00:00:00:98
address add 10.98.0.1/16 dev crowd
-6 address add fd98::1/64 dev crowd nodad
link set crowd up`

// segmentLines make the bridge of the gVisor pods' datapath.
const segmentLines = `
link add ` + datapath.SegmentLink + ` type bridge
link set ` + datapath.SegmentLink + ` address 02:00:00:00:00:97
address add 10.97.0.1/16 dev ` + datapath.SegmentLink + `
-6 address add fd97::1/64 dev ` + datapath.SegmentLink + ` nodad
link set ` + datapath.SegmentLink + ` up`

// party is a kind of storm, and what its rounds showed.
type party struct {
	name               string
	bridge             string // its name; empty: every pod has a link of its own to the gateway
	pinned, returnPath bool
	gvisor             bool

	took            []time.Duration
	arp, ns, asked  []float64 // frames at the gateway: the pods' questions, and its own
	received, until []float64 // frames sent to pods; milliseconds until all pods had both first bytes
	attempts        []*attempt
}

func parties(crowd, gvisor int) []*party {
	name := func(n int, kind, how string) string { return fmt.Sprintf("%d %s, %s", n, kind, how) }
	return []*party{
		{name: name(crowd, "on a bridge", "not pinned"), bridge: crowdBridge},
		{name: name(crowd, "on a bridge", "pinned"), bridge: crowdBridge, pinned: true},
		{name: name(crowd, "routed", "not pinned")},
		{name: name(crowd, "routed", "pinned"), pinned: true},
		{name: name(crowd, "routed", "pinned, returnPath"), pinned: true, returnPath: true},
		{name: name(gvisor, "gVisor pods on a bridge", "not pinned"), bridge: datapath.SegmentLink, gvisor: true},
		{name: name(gvisor, "gVisor pods on a bridge", "pinned"), bridge: datapath.SegmentLink, gvisor: true, pinned: true},
	}
}

// Storm counts what gateways hear when many pods start at once.
func Storm() bench.Section {
	return bench.Section{Name: "storm", Title: "many pods start at once behind one gateway", Run: runStorm}
}

func runStorm(ctx context.Context, env bench.Env) (bench.Result, error) {
	return storm(ctx, env, env.Rounds(200, 50), env.Rounds(24, 4), env.Rounds(5, 2))
}

func storm(ctx context.Context, env bench.Env, size, gvisor, rounds int) (result bench.Result, err error) {
	env.Say("starting a node with containerd, gVisor and neighpin")
	b, err := newBed(ctx, node.DaemonOptions{})
	if err != nil {
		return result, err
	}
	cleanup := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, b.close(cleanup)) }()
	all := parties(size, gvisor)
	if err := b.crowds(ctx, env, all, size, rounds); err != nil {
		return result, err
	}
	if err := b.sandboxes(ctx, env, all, gvisor); err != nil {
		return result, err
	}
	for _, p := range all {
		result.Rows = append(result.Rows, p.row())
		if p.gvisor && p.pinned {
			result.Limits = append(result.Limits, late(p.name, p.attempts))
		}
	}
	result.Notes = stormNotes()
	return result, compareParties(&result, all)
}

// compareParties adds how much longer it takes until all pods are served that are not pinned.
func compareParties(result *bench.Result, all []*party) error {
	var errs []error
	for i, of := range all {
		for _, to := range all[i+1:] {
			if !of.pinned && to.pinned && of.bridge == to.bridge {
				errs = append(errs, result.Compare(of.name, to.name, untilAll, 0))
			}
		}
	}
	return errors.Join(errs...)
}

// untilAll is the name of a value.
const untilAll = "until all have both"

// crowds lets the parties without gVisor take turns. Each kind of network has one crowd, which forgets all neighbors between.
func (b *bed) crowds(ctx context.Context, env bench.Env, all []*party, size, rounds int) (err error) {
	defer func() { err = errors.Join(err, ip(context.WithoutCancel(ctx), "link delete "+crowdBridge)) }()
	if err := ip(ctx, crowdLines); err != nil {
		return err
	}
	crowds := map[string]*crowd{}
	for bridge, n := range map[string]network{
		crowdBridge: {gateway4: netip.MustParseAddr("10.98.0.1"), gateway6: netip.MustParseAddr("fd98::1")},
		"":          {gateway4: netip.MustParseAddr("10.99.0.1"), gateway6: netip.MustParseAddr("fd99::1")},
	} {
		env.Say("making %d network namespaces", size)
		c, err := gather(size, bridge, n)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.disperse()) }()
		crowds[bridge] = c
	}
	parties := slices.DeleteFunc(slices.Clone(all), func(p *party) bool { return p.gvisor })
	for i := range rounds {
		for j := range parties {
			p := parties[(i+j)%len(parties)]
			if err := b.crowd(ctx, p, crowds[p.bridge]); err != nil {
				return fmt.Errorf("let start %s: %w", p.name, err)
			}
		}
		env.Say("%d of %d rounds", i+1, rounds)
	}
	return nil
}

// crowd lets a crowd rush at its gateways.
func (b *bed) crowd(ctx context.Context, p *party, c *crowd) error {
	if err := c.forget(); err != nil {
		return err
	}
	if p.pinned {
		if err := c.pin(ctx, p.returnPath); err != nil {
			return err
		}
	}
	listen := wire.Open
	if p.bridge != "" {
		listen = func() (*wire.Capture, error) { return wire.OpenOn(p.bridge) }
	}
	capture, err := listen()
	if err != nil {
		return err
	}
	before, err := c.received()
	if err != nil {
		return errors.Join(err, capture.Close())
	}
	begin := time.Now()
	took, until, err := c.rush(ctx, [2]netip.AddrPort{b.greeter.at(c.network.gateway4), b.greeter.at(c.network.gateway6)})
	p.listened(capture, c.network, begin)
	p.asked = append(p.asked, own(capture, begin))
	after, more := c.received()
	if err := errors.Join(err, more, capture.Close()); err != nil {
		return err
	}
	p.took = append(p.took, took...)
	p.until = append(p.until, milliseconds(until))
	p.received = append(p.received, float64(after-before))
	return p.check(len(c.pods))
}

// listened counts what the gateway heard.
func (p *party) listened(capture *wire.Capture, n network, since time.Time) {
	link := p.bridge // on which a capture of all links has what the node itself is given, and not what passes
	p.arp = append(p.arp, float64(len(capture.Messages(wire.Asks(link, since, n.gateway4)))))
	p.ns = append(p.ns, float64(len(capture.Messages(wire.Asks(link, since, n.gateway6)))))
}

// own counts the gateway's own questions.
func own(capture *wire.Capture, since time.Time) (asked float64) {
	for _, m := range capture.Messages(wire.Query{Since: since, Kinds: []wire.Kind{wire.ARPRequest, wire.Solicitation}}) {
		if !m.Incoming {
			asked++
		}
	}
	return asked
}

// check says what is wrong with the last round.
func (p *party) check(size int) error {
	last := len(p.arp) - 1
	switch arp, ns := p.arp[last], p.ns[last]; {
	case p.pinned && arp+ns != 0 && late(p.name, p.attempts).Value == 0:
		return fmt.Errorf("look at the gateway: pinned pods have sent %v ARP requests and %v NS for it", arp, ns)
	case !p.pinned && (arp < float64(size) || ns < float64(size)):
		return fmt.Errorf("look at the gateway: %d pods have sent only %v ARP requests and %v NS for it", size, arp, ns)
	}
	return nil
}

// sandboxes lets gVisor pods start, those that are left alone and then those that are pinned.
func (b *bed) sandboxes(ctx context.Context, env bench.Env, all []*party, size int) (err error) {
	defer func() { err = errors.Join(err, ip(context.WithoutCancel(ctx), "link delete "+datapath.SegmentLink)) }()
	if err := ip(ctx, segmentLines); err != nil {
		return err
	}
	if err := b.listen(); err != nil {
		return err
	}
	for _, p := range all {
		if !p.gvisor {
			continue
		}
		env.Say("%s", p.name)
		if err := b.pods(ctx, p, size); err != nil {
			return fmt.Errorf("let start %s: %w", p.name, err)
		}
	}
	return nil
}

// pods lets gVisor pods start, all at once.
func (b *bed) pods(ctx context.Context, p *party, size int) (err error) {
	n := network{name: p.name, namespace: "bridge", gateway4: node.Gateway4, gateway6: node.Gateway6, questions: 1}
	attempts := make([]*attempt, size)
	begin := time.Now()
	group, within := errgroup.WithContext(ctx)
	for i := range attempts {
		group.Go(func() (err error) {
			if attempts[i], err = b.start(within, n, p.pinned); err != nil {
				return err
			}
			return attempts[i].wait(within)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	until := begin
	for _, a := range attempts {
		p.took = append(p.took, a.took[0])
		if a.until.After(until) {
			until = a.until
		}
	}
	p.until = append(p.until, milliseconds(until.Sub(begin)))
	p.attempts = attempts
	p.listened(b.capture, n, begin)
	asked := 0
	for _, a := range attempts {
		asked += b.asked(a).host
	}
	p.asked = append(p.asked, float64(asked))
	if err := b.check(ctx, attempts); err != nil {
		return err
	}
	return errors.Join(p.check(size), b.remove(ctx, attempts))
}

func (p *party) row() bench.Row {
	values := []bench.Value{
		{Name: untilAll, Unit: "ms", Value: bench.Median(p.until)},
		{Name: "pods' ARP", Value: bench.Median(p.arp)}, {Name: "pods' NS", Value: bench.Median(p.ns)},
		{Name: "gateway's questions", Value: bench.Median(p.asked)},
	}
	if len(p.received) > 0 {
		values = append(values, bench.Value{Name: "frames to pods", Value: bench.Median(p.received)})
	}
	return bench.NewRow(p.name, p.took, values...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func stormNotes() []string {
	return []string{
		"the large crowds are network namespaces on the kernel's stack, pinned beforehand by neighpin's own packages; between two storms both sides forget all neighbors",
		"the gVisor pods are started at once by containerd, with neighpin; until all have both is with their start; two processors cannot start 200 of them at once",
		"each pod connects by IPv4, then by IPv6; latencies are IPv4's; counts are those of one storm, the median of the rounds",
		"pods' ARP and NS are the questions that the gateway hears; its own are for the pods, whose addresses it learns in passing only from those that ask",
		"frames to pods are all that the host's ends of their links send to them, TCP's included: on a bridge everybody is sent what anybody broadcasts",
	}
}
