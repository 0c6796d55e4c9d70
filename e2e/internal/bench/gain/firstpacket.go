// SPDX-License-Identifier: Apache-2.0

package gain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// uplink gives the node a default route by way of another link than a pod's, without which the kernel is no proxy.
const uplink = `
link add up0 type veth peer name up1
address add 192.0.2.2/24 dev up0
link set up0 up
link set up1 up
route add default via 192.0.2.1 dev up0`

// contender is a kind of pods.
type contender struct {
	network
	pinned bool
	// lazy are those whose answers are late by hundreds of milliseconds: the next pod is not kept waiting for them.
	lazy bool

	attempts []*attempt
}

func (c *contender) name() string {
	switch {
	case !c.pinned:
		return c.network.name + ", not pinned"
	case c.namespace == returning:
		return c.network.name + ", pinned, returnPath"
	}
	return c.network.name + ", pinned"
}

func contenders() []*contender {
	calico4, calico6 := netip.MustParseAddr(datapath.CalicoGateway4), netip.MustParseAddr(datapath.CalicoGateway6)
	ptp := network{"ptp", "default", node.Gateway4, node.Gateway6, 1}
	back := network{"ptp", returning, node.Gateway4, node.Gateway6, 1}
	prompt := network{"Calico", "calico-prompt", calico4, calico6, 1}
	late := network{"Calico, kernel's delay", "calico", calico4, calico6, 1}
	lost := network{"first request lost", "first-lost", node.Gateway4, node.Gateway6, 2}
	return []*contender{
		{network: ptp}, {network: ptp, pinned: true}, {network: back, pinned: true},
		{network: prompt}, {network: prompt, pinned: true},
		{network: late, lazy: true}, {network: late, pinned: true},
		{network: lost, lazy: true}, {network: lost, pinned: true},
	}
}

// FirstPacket compares the first connections of gVisor pods with pinned gateways to those without.
func FirstPacket() bench.Section {
	return bench.Section{Name: "firstpacket", Title: "the first connection of a gVisor pod, to its first byte", Run: runFirstPacket}
}

// daemons are two: what the one serves, the other leaves alone.
func daemons() []node.DaemonOptions {
	return []node.DaemonOptions{
		{Args: []string{"--exclude-namespaces", returning}},
		{StateDir: returningState, Args: []string{"--plugin-name", "neighpin-" + returning, "--plugin-index", "11",
			"--handlers", "none", "--pod-annotations", "optIn", "--return-path"}},
	}
}

func runFirstPacket(ctx context.Context, env bench.Env) (result bench.Result, err error) {
	env.Say("starting a node with containerd, gVisor and neighpin")
	b, err := newBed(ctx, daemons()...)
	if err != nil {
		return result, err
	}
	cleanup := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, b.close(cleanup)) }()
	defer func() { err = errors.Join(err, ip(cleanup, "link delete up0")) }()
	if err := errors.Join(ip(ctx, uplink), b.listen()); err != nil {
		return result, err
	}
	all := contenders()
	if err := b.rounds(ctx, env, all, env.Rounds(10, 1)); err != nil {
		if folder, failed := b.node.KeepLogs("bench-firstpacket"); failed == nil {
			err = fmt.Errorf("%w (the logs are kept in %s)", err, folder)
		}
		return result, err
	}
	var pinned []*attempt
	for _, c := range all {
		result.Rows = append(result.Rows, c.row(b))
		if c.pinned {
			pinned = append(pinned, c.attempts...)
		}
	}
	result.Limits = []bench.Limit{late("firstpacket", pinned)}
	result.Notes = notes()
	return result, compare(&result, all)
}

// rounds lets the contenders take turns, each round in another order. Those that wait long are looked at and removed a round later.
func (b *bed) rounds(ctx context.Context, env bench.Env, all []*contender, rounds int) error {
	var waiting []*attempt
	for i := range rounds {
		var begun []*attempt
		late := waiting
		waiting = nil
		for j := range all {
			c := all[(i+j)%len(all)]
			a, err := b.start(ctx, c.network, c.pinned)
			if err != nil {
				return err
			}
			c.attempts = append(c.attempts, a)
			if c.lazy {
				waiting = append(waiting, a)
				continue
			}
			if err := a.wait(ctx); err != nil {
				return err
			}
			begun = append(begun, a)
		}
		if err := b.finish(ctx, append(begun, late...)); err != nil {
			return err
		}
		env.Say("%d of %d rounds", i+1, rounds)
	}
	return b.finish(ctx, waiting)
}

// finish waits for pods, checks that they were what they should be, and removes them.
func (b *bed) finish(ctx context.Context, attempts []*attempt) error {
	for _, a := range attempts {
		if err := a.wait(ctx); err != nil {
			return err
		}
	}
	if err := b.check(ctx, attempts); err != nil {
		return err
	}
	return b.remove(ctx, attempts)
}

// took are the times to the first byte by a family, 0 for IPv4 and 1 for IPv6, in the order of the rounds; those of late pods are left out.
func (c *contender) took(family int) (took []time.Duration) {
	for _, a := range c.attempts {
		if !a.late {
			took = append(took, a.took[family])
		}
	}
	return took
}

// pairs are the times by IPv4 of the rounds in which neither's pod was late.
func pairs(of, to *contender) (a, b []time.Duration) {
	for i := range of.attempts {
		if !of.attempts[i].late && !to.attempts[i].late {
			a, b = append(a, of.attempts[i].took[0]), append(b, to.attempts[i].took[0])
		}
	}
	return a, b
}

// row is what was measured of a contender: the latencies are IPv4's.
func (c *contender) row(b *bed) bench.Row {
	var sum questions
	for _, a := range c.attempts {
		if a.late {
			continue
		}
		q := b.asked(a)
		sum.arp, sum.ns, sum.host = sum.arp+q.arp, sum.ns+q.ns, sum.host+q.host
	}
	each := func(n int) float64 { return float64(n) / max(1, float64(len(c.took(0)))) }
	return bench.NewRow(c.name(), c.took(0),
		bench.Value{Name: "IPv6 p50", Unit: "µs", Value: bench.Summarize(c.took(1)).P50},
		bench.Value{Name: "pod's ARP", Value: each(sum.arp)}, bench.Value{Name: "pod's NS", Value: each(sum.ns)},
		bench.Value{Name: "host's questions", Value: each(sum.host)})
}

// compare adds, for each network, how much longer a pod takes that is not pinned: the median of the rounds' ratios, where there are enough
// rounds for its interval, else the ratio of the medians.
func compare(result *bench.Result, all []*contender) error {
	var errs []error
	for i, of := range all {
		if of.pinned {
			continue
		}
		for _, to := range all[i+1:] {
			if !to.pinned {
				break
			}
			median, low, high := bench.PairedRatio(pairs(of, to))
			if median == 0 {
				errs = append(errs, result.Compare(of.name(), to.name(), "p50", 0))
				continue
			}
			result.Ratios = append(result.Ratios, bench.Ratio{Of: of.name(), To: to.name(), Figure: "first byte", Ratio: median, Low: low, High: high})
		}
	}
	return errors.Join(errs...)
}

func notes() []string {
	return []string{
		"latencies are IPv4's, of the first connection that the pod's program makes as it starts; IPv6's is its second",
		"questions are means per pod; the host's are for the pod's addresses, which it learns in passing from a pod that asks",
		"Calico sets proxy_delay to 0; the kernel's own is a random delay of up to 800 ms, for IPv4 only: IPv6's gateway is an address of the host's end",
		"first request lost: a program on the host's end of ptp's link drops the first ARP request and NS for the gateways; gVisor asks again after a second",
		"each pod was checked: the pinned sent no ARP or NS for a gateway, the others asked for both; one that was pinned too late is left out",
		"returnPath was off but for the row that names it",
		"pods that wait for hundreds of milliseconds do so while the next are started; all others are waited for before the next",
		"the other end of the connection is the node itself, and runsc wrote its debug log",
	}
}
