// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Section is one subject.
type Section struct {
	Name  string // one word, for -only and the document's blocks
	Title string
	Run   func(context.Context, Env) (Result, error)
}

// Env is what a section is given.
type Env struct {
	Short    bool      // a few rounds will do
	Progress io.Writer // for a line now and then
	Profiles string    // a folder for profiles; empty: none are wanted
	Until    time.Time // when a whole run is to be over, for the section that takes what time is left
}

// whole is what a whole run may take, with some of ten minutes left for what it builds before and removes after.
const whole = 9*time.Minute + 20*time.Second

// Rounds chooses how often something is done.
func (e Env) Rounds(long, short int) int {
	if e.Short {
		return short
	}
	return long
}

// Say prints a line of progress.
func (e Env) Say(format string, args ...any) { fmt.Fprintf(e.Progress, "    "+format+"\n", args...) }

// Run runs sections one after the other and fills the report's Sections; only names those to run, empty all. A
// section that ends with an error is left out, and the error is returned when the others have run.
func (r *Report) Run(ctx context.Context, sections []Section, only []string, env Env) error {
	for _, name := range only {
		if !slices.ContainsFunc(sections, func(s Section) bool { return s.Name == name }) {
			return fmt.Errorf("find section %q: there are %s", name, names(sections))
		}
	}
	start := time.Now()
	env.Until = start.Add(whole)
	var errs []error
	for _, s := range sections {
		if len(only) > 0 && !slices.Contains(only, s.Name) {
			continue
		}
		fmt.Fprintf(env.Progress, "--- %s: %s\n", s.Name, s.Title)
		result, err := runOne(ctx, s, env)
		if err != nil {
			errs = append(errs, fmt.Errorf("run section %s: %w", s.Name, err))
			fmt.Fprintln(env.Progress, errs[len(errs)-1])
			continue
		}
		result.Print(env.Progress)
		r.Sections = append(r.Sections, result)
	}
	r.Seconds = time.Since(start).Seconds()
	return errors.Join(errs...)
}

func runOne(ctx context.Context, s Section, env Env) (Result, error) {
	before, err := Load()
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	result, err := s.Run(ctx, env)
	if err != nil {
		return Result{}, err
	}
	result.Took = time.Since(began).Seconds()
	after, err := Load()
	result.Name, result.Title, result.Load = s.Name, s.Title, [2]float64{before, after}
	return result, err
}

func names(sections []Section) string {
	var list []string
	for _, s := range sections {
		list = append(list, s.Name)
	}
	return strings.Join(list, ", ")
}
