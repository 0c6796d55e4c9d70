// SPDX-License-Identifier: Apache-2.0

package podstart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

// Names of contenders.
const (
	floorName   = "floor"
	productName = "neighpin"

	naiveName   = "naive plugin"
	copyingName = "copy of REACHABLE"
	chainedName = "chained CNI plugin"
	shellName   = "shell hook"
)

// Floor compares neighpin with the fewest system calls that do the job.
func Floor() bench.Section {
	return bench.Section{Name: "floor", Title: "one pod, against the fewest system calls that do the job", Run: runFloor}
}

func runFloor(ctx context.Context, env bench.Env) (result bench.Result, err error) {
	bed, err := NewBed()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	floor, err := newFloor()
	if err != nil {
		return result, err
	}
	defer floor.Close()
	product, err := newProduct()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, product.Close()) }()
	contenders := []contender{{floorName, floor.pin}, {productName, product.pin}}
	all, err := measure(ctx, bed, contenders, env.Rounds(300, 64), env)
	if err != nil {
		return result, err
	}
	result.Rows = rows(contenders, all)
	result.Notes = append(result.Notes, product.whereItGoes())
	for i, c := range contenders {
		env.Say("counting the system calls of %s", c.name)
		counted, err := countCalls(ctx, bed, c.name, env.Rounds(25, 5))
		if err != nil {
			return result, err
		}
		result.Rows[i].Values = append(result.Rows[i].Values, bench.Value{Name: "system calls", Value: float64(counted.sum())})
		result.Notes = append(result.Notes, fmt.Sprintf("%s calls: %s", c.name, counted))
	}
	result.Notes = append(result.Notes, "system calls are those of the job, in the round with the median number; Go's scheduler's are not counted")
	if env.Profiles != "" {
		if err := profile(ctx, bed, product, filepath.Join(env.Profiles, "floor-neighpin.pprof"), env.Rounds(8000, 800)); err != nil {
			return result, err
		}
	}
	return result, errors.Join(result.Compare(productName, floorName, "p50", 2), result.Compare(productName, floorName, "p99", 4),
		result.Compare(productName, floorName, "system calls", 1.5))
}

// profile writes a profile of the processor while pods are pinned. The same pods serve again and again, with their entries removed
// between; in the profile, what is below product.pin is the pinning.
func profile(ctx context.Context, bed *Bed, product *product, path string, rounds int) (err error) {
	pods, err := makePods(bed, batch)
	defer func() { err = errors.Join(err, removePods(pods)) }()
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make the profile's file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("start the profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	for i := range rounds {
		pod := pods[i%len(pods)]
		if err := product.pin(ctx, pod.Path); err != nil {
			return err
		}
		if err := pod.clear(); err != nil {
			return err
		}
	}
	return nil
}

// Alternatives compares neighpin with what one would do without it. plugin is the program e2e/cmd/cni-pin.
func Alternatives(plugin string) bench.Section {
	return bench.Section{Name: "alternatives", Title: "one pod, against what one would do instead",
		Run: func(ctx context.Context, env bench.Env) (bench.Result, error) {
			return runAlternatives(ctx, env, plugin)
		}}
}

func runAlternatives(ctx context.Context, env bench.Env, plugin string) (result bench.Result, err error) {
	bed, err := NewBed()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	product, err := newProduct()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, product.Close()) }()
	contenders := []contender{{productName, product.pin}, {naiveName, naive}, {copyingName, copying}, {chainedName, chained(plugin)}, {shellName, shell}}
	all, err := measure(ctx, bed, contenders, env.Rounds(100, 16), env)
	if err != nil {
		return result, err
	}
	result.Rows = rows(contenders, all)
	result.Notes = []string{
		fmt.Sprintf("the %s looks for an answer every %v; the %s is told by the kernel; the %s is of Go and uses neighpin's own packages", naiveName, pollInterval, copyingName, chainedName),
		"packets are those by which the pod asks (ARP, neighbor discovery, UDP, echoes), as they come out of its veth",
	}
	for _, c := range contenders[1:] {
		err = errors.Join(err, result.Compare(c.name, productName, "p50", 0), result.Compare(c.name, productName, "CPU", 0))
	}
	return result, err
}
