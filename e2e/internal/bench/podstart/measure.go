// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

// contender is a way to pin a pod.
type contender struct {
	name string
	pin  func(ctx context.Context, path string) error
}

// series is what was measured of one contender, a value per round.
type series struct {
	took    []time.Duration
	cpu     []float64 // microseconds of this process and of those it started
	packets []float64 // that the pod sent to ask, see count
}

// batch is how many rounds' pods are made before any is used, and removed after: the kernel's late work on namespaces that
// have ended would meet the next round.
const batch = 8

// measure lets the contenders take turns, each round in another order.
func measure(ctx context.Context, bed *Bed, contenders []contender, rounds int, env bench.Env) (map[string]*series, error) {
	all := make(map[string]*series)
	for _, c := range contenders {
		all[c.name] = &series{}
	}
	for done := 0; done < rounds; done += batch {
		n := min(batch, rounds-done)
		pods, err := makePods(bed, n*len(contenders))
		for i := range n * len(contenders) {
			if err != nil || ctx.Err() != nil {
				break
			}
			c := contenders[(i+i/len(contenders)+done)%len(contenders)]
			err = measureOne(ctx, pods[i], c, all[c.name])
		}
		if err := errors.Join(err, ctx.Err(), removePods(pods)); err != nil {
			return nil, err
		}
		if done/batch%8 == 0 {
			env.Say("%d of %d rounds", done+n, rounds)
		}
	}
	return all, nil
}

func makePods(bed *Bed, n int) (pods []*Pod, err error) {
	for range n {
		p, err := bed.NewPod()
		if err != nil {
			return pods, err
		}
		pods = append(pods, p)
	}
	return pods, nil
}

func removePods(pods []*Pod) error {
	var errs []error
	for _, p := range pods {
		errs = append(errs, p.Remove())
	}
	return errors.Join(errs...)
}

// patience bounds one round of one contender.
const patience = time.Minute

func measureOne(ctx context.Context, pod *Pod, c contender, to *series) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	packets, err := listen(pod.host.Attrs().Index)
	if err != nil {
		return err
	}
	defer packets.Close()
	before, err := processor()
	if err != nil {
		return err
	}
	start := time.Now()
	err = c.pin(ctx, pod.Path)
	took := time.Since(start)
	if err != nil {
		return fmt.Errorf("pin by %s: %w", c.name, err)
	}
	after, err := processor()
	if err != nil {
		return err
	}
	if err := pod.Check(); err != nil {
		return fmt.Errorf("check what %s has pinned: %w", c.name, err)
	}
	asked, err := packets.count()
	if err != nil {
		return err
	}
	to.took = append(to.took, took)
	to.cpu = append(to.cpu, float64((after-before).Nanoseconds())/1e3)
	to.packets = append(to.packets, float64(asked))
	return nil
}

// processor is the time that this process and its ended children have had of a processor.
func processor() (time.Duration, error) {
	var sum time.Duration
	for _, who := range [...]int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			return 0, fmt.Errorf("read the processor's time: %w", err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum, nil
}

// rows make a result of the series, in the order of the contenders.
func rows(contenders []contender, all map[string]*series) []bench.Row {
	var rows []bench.Row
	for _, c := range contenders {
		s := all[c.name]
		rows = append(rows, bench.NewRow(c.name, s.took,
			bench.Value{Name: "CPU", Unit: "µs", Value: bench.Median(s.cpu)}, bench.Value{Name: "packets", Value: bench.Median(s.packets)}))
	}
	return rows
}
