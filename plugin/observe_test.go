// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// A daemon that may not load a program says so once, and works without.
func TestWithoutRightsNothingIsObserved(t *testing.T) {
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	d := &daemon{log: log}
	var options sandbox.Options
	rightless(t, func() { d.observe(&options) })
	if options.Observer != nil || d.observer != nil || d.observeErr == nil {
		t.Errorf("observer %v, %v, error %v", options.Observer, d.observer, d.observeErr)
	}
	if n := strings.Count(out.String(), "pods are not observed"); n != 1 {
		t.Errorf("said %d times:\n%s", n, out.String())
	}
	var table strings.Builder
	printStatus(&table, status.Status{Observe: &status.Observe{Error: text(d.observeErr)}})
	if !strings.Contains(table.String(), "what pods ask for: not counted: load the program that observes: ") {
		t.Errorf("the status says\n%s", table.String())
	}
	if err := d.end(); err != nil {
		t.Error(err)
	}

	d = &daemon{log: log}
	d.observe(&options)
	if options.Observer == nil || d.observeErr != nil {
		t.Errorf("with all rights: %v", d.observeErr)
	}
	if err := d.end(); err != nil {
		t.Error(err)
	}
}

// rightless runs fn on a thread that has no capability, and that ends with it.
func rightless(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan error)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // it never ends, and is held until another has done it
			defer runtime.UnlockOSThread()
			other := make(chan struct{})
			go func() { defer close(other); run() }()
			<-other
			return
		}
		var none [2]unix.CapUserData
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		if err == nil {
			fn()
		}
		done <- err
	}
	go run()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTheStatusShowsWhatWasObserved(t *testing.T) {
	var table strings.Builder
	printStatus(&table, status.Status{Observe: &status.Observe{Counting: true}, Sandboxes: []record.Record{
		{Namespace: "shop", Name: "web", Observed: &record.Observed{Gateways: 3, Others: 5}}, {Namespace: "shop", Name: "db"},
	}})
	for _, want := range []string{"what pods ask for: counted\n", "asked for pinned gateways: 3, for others: 5\n"} {
		if strings.Count(table.String(), want) != 1 {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	table.Reset()
	printStatus(&table, status.Status{})
	if strings.Contains(table.String(), "ask") {
		t.Errorf("shown although nobody observes:\n%s", table.String())
	}
}
