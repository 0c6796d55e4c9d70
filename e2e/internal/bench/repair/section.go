// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// home is where everything of this section is; an enclosure's /run is its own.
const home = "/run/neighpin-repair"

// Names of rows, and what is to be met by a thousand pods.
const (
	podsName   = "pods, until each is repaired"
	idleName   = "NRI's answers, at rest"
	busyName   = "NRI's answers, meanwhile"
	repairBar  = 1000 // milliseconds
	answersBar = 1000 // microseconds
)

// Repair measures how a thousand pods follow their gateway.
func Repair() bench.Section {
	return bench.Section{Name: "repair", Title: "a gateway whose address changes under all pods at once", Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
		return run(ctx, env, env.Rounds(1000, 300), env.Rounds(8, 3))
	}}
}

// address is the gateways' in one round.
func address(round int) net.HardwareAddr { return net.HardwareAddr{2, 0x89, 0, 0, 0, byte(1 + round)} }

func run(ctx context.Context, env bench.Env, pods, rounds int) (result bench.Result, err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return result, err
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return result, fmt.Errorf("make the section's folder: %w", err)
	}
	env.Say("making %d pods on one bridge", pods)
	s, err := newSegment(filepath.Join(home, "netns"), pods)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	socket := filepath.Join(home, "nri.sock")
	r, err := startRuntime(socket, s)
	if err != nil {
		return result, err
	}
	defer r.Close()
	if err := s.move(address(0)); err != nil {
		return result, err
	}
	env.Say("starting neighpin")
	d, err := startDaemon(programs.Neighpin(), home, socket, s)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.recorded(ctx, address(0).String(), pods); err != nil {
		return result, err
	}
	r.Settle()
	m := &measurement{segment: s, runtime: r, daemon: d}
	if env.Profiles != "" {
		var profile sync.WaitGroup
		profile.Go(func() {
			if err := d.Save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", profileSeconds), filepath.Join(env.Profiles, "repair-neighpin.pprof")); err != nil {
				env.Say("no profile: %v", err)
			}
		})
		defer profile.Wait()
	}
	for round := range rounds {
		if err := m.round(ctx, address(1+round)); err != nil {
			return result, fmt.Errorf("round %d: %w", round, err)
		}
	}
	m.report(&result, pods, rounds)
	return result, nil
}

// measurement is what all rounds share, and what came of them.
type measurement struct {
	segment *segment
	runtime *runtime
	daemon  *daemon

	each       []time.Duration // until a pod was repaired
	all        []time.Duration // until the last one was
	idle, busy []time.Duration
	processor  time.Duration
	looks      float64
}

// profileSeconds is how much of the rounds a profile has.
const profileSeconds = 10

// restFor is how long the runtime's events are sent before each change, for comparison.
const restFor = 300 * time.Millisecond

// round changes the address and waits for all to follow, while the runtime goes on.
func (m *measurement) round(ctx context.Context, to net.HardwareAddr) error {
	traffic := m.runtime.begin(ctx)
	<-time.After(restFor)
	idle, err := traffic.end()
	if err != nil {
		return err
	}
	w, err := newWitness()
	if err != nil {
		return err
	}
	looked, looksErr := m.daemon.looks(ctx)
	before, err := m.daemon.Processor()
	if err := errors.Join(looksErr, err); err != nil {
		return errors.Join(err, w.Close())
	}
	traffic = m.runtime.begin(ctx)
	began := time.Now()
	err = m.segment.move(to)
	var whole []time.Time
	if err == nil {
		whole, err = w.repaired(neighbor.HardwareAddr(to.String()), len(m.segment.pods)*len(gateways()))
	}
	busy, trafficErr := traffic.end()
	after, usedErr := m.daemon.Processor()
	if err := errors.Join(err, trafficErr, usedErr, w.Close()); err != nil {
		return err
	}
	for _, at := range whole {
		m.each = append(m.each, at.Sub(began))
	}
	m.all = append(m.all, whole[len(whole)-1].Sub(began))
	m.idle, m.busy, m.processor = append(m.idle, idle...), append(m.busy, busy...), m.processor+after-before
	if err := errors.Join(m.segment.check(to), m.daemon.recorded(ctx, to.String(), len(m.segment.pods))); err != nil {
		return err
	}
	looks, err := m.daemon.looks(ctx)
	m.looks += looks - looked
	return err
}

func (m *measurement) report(result *bench.Result, pods, rounds int) {
	result.Rows = []bench.Row{
		bench.NewRow(podsName, m.each, bench.Value{Name: "CPU per pod", Unit: "µs", Value: float64(m.processor.Microseconds()) / float64(pods*rounds)},
			bench.Value{Name: "looks per pod", Value: m.looks / float64(pods*rounds)}),
		bench.NewRow(idleName, m.idle), bench.NewRow(busyName, m.busy),
	}
	worst := bench.Summarize(m.all)
	result.Limits = []bench.Limit{
		{Of: fmt.Sprintf("%d pods", pods), Figure: "time until all were repaired, the longest of all rounds,", Unit: "ms", Value: worst.Max / 1000, Bar: repairBar},
		{Of: busyName, Figure: "p99", Unit: "µs", Value: result.Rows[2].Latency.P99, Bar: answersBar},
	}
	result.Notes = []string{
		fmt.Sprintf("%d pods, %d rounds; until all were repaired: %.0f ms in the median round", pods, rounds, worst.P50/1000),
		fmt.Sprintf("RunPodSandbox and CreateContainer in turns, %v apart; the time is that of the round trip through NRI's adaptation", eventPause),
	}
}
