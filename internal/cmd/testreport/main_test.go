// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	passing  = `{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":0.1}` + "\n"
	slowTest = `{"Action":"pass","Package":"p","Test":"TestSlow","Elapsed":2.5}` + "\n"
	failing  = `{"Action":"output","Package":"p","Test":"TestBad","Output":"it broke\n"}` + "\n" +
		`{"Action":"fail","Package":"p","Test":"TestBad","Elapsed":0.1}` + "\n"
	spoken = `{"Action":"output","Package":"p","Test":"TestWordy","Output":"    p_test.go:7: pin gateway: no route\n"}` + "\n"
	wordy  = `{"Action":"output","Package":"p","Test":"TestWordy","Output":"    p_test.go:6: the first of many\n"}` + "\n" + spoken + spoken + spoken +
		`{"Action":"output","Package":"p","Test":"TestWordy","Output":"        a line below it\n"}` + "\n" +
		`{"Action":"output","Package":"p","Test":"TestWordy","Output":"    p_test.go:8: more is in /somewhere\n"}` + "\n" +
		`{"Action":"fail","Package":"p","Test":"TestWordy","Elapsed":0.1}` + "\n"
	skipping = `{"Action":"output","Package":"p","Test":"TestShy","Output":"no device\n"}` + "\n" +
		`{"Action":"skip","Package":"p","Test":"TestShy"}` + "\n"
	leaking = `{"Action":"output","Package":"p","Output":"goroutine left\n"}` + "\n" +
		`{"Action":"fail","Package":"p","Elapsed":0.2}` + "\n"
	measuring = `{"Action":"output","Package":"p","Output":"figure: 7 of 7 in time\n"}` + "\n" +
		`{"Action":"output","Package":"p","Output":"PASS\n"}` + "\n"
	unbuilt = `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: syntax error\n"}` + "\n" +
		`{"ImportPath":"p","Action":"build-fail"}` + "\n"
	end = `{"Action":"pass","Package":"p","Elapsed":3}` + "\n"
)

func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		args   []string
		root   bool
		code   int
		says   []string
		silent string
	}{
		"all pass":  {events: passing + slowTest + end, root: true, says: []string{"TestSlow", "ok    p", "2 tests passed, 0 failed, 0 skipped in 1 packages"}, silent: "TestGood"},
		"a failure": {events: passing + failing + end, code: 1, says: []string{"FAIL  p TestBad", "it broke", "1 failed", "failed: p TestBad"}},
		"a failure's last words": {events: wordy + end, code: 1, says: []string{"first of many", "failed: p TestWordy\n    p_test.go:7: pin gateway: no route\n" +
			"    p_test.go:7: pin gateway: no route\n    p_test.go:7: pin gateway: no route\n    p_test.go:8: more is in /somewhere\n"}},
		"a skip, as root":      {events: skipping + end, root: true, code: 1, says: []string{"no device", "none may be skipped: p TestShy"}},
		"a skip, as a user":    {events: skipping + end, says: []string{"skip  p TestShy", "1 skipped"}},
		"a leak after all":     {events: passing + leaking, code: 1, says: []string{"goroutine left", "failed: package p"}},
		"a figure":             {events: passing + measuring + end, says: []string{"      7 of 7 in time\n"}, silent: "PASS"},
		"a package not built":  {events: unbuilt, code: 1, says: []string{"syntax error", "failed: build p"}},
		"a figure measured":    {events: passing + `{"Action":"output","Package":"p","Output":"PASS\n"}` + "\n" + `{"Action":"output","Package":"p","Output":"margin 7 ms\n"}` + "\n" + end, root: true, says: []string{"margin 7 ms"}, silent: "PASS"},
		"nothing at all":       {code: 1, says: []string{"no package was tested"}},
		"words of go itself":   {events: "go: updates to go.mod needed\n" + passing + end, says: []string{"updates to go.mod"}},
		"verbose, once":        {events: failing, args: []string{"-v"}, code: 1, says: []string{"it broke"}, silent: "            it broke"},
		"an unknown flag":      {args: []string{"-x"}, code: 2, says: []string{"-x"}},
		"an argument too many": {args: []string{"x"}, code: 2, says: []string{`"x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			code := run(c.args, strings.NewReader(c.events), &out, &out, c.root)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s", code, c.code, out.String())
			}
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("output lacks %q:\n%s", s, out.String())
				}
			}
			if c.silent != "" && strings.Contains(out.String(), c.silent) {
				t.Errorf("output holds %q:\n%s", c.silent, out.String())
			}
		})
	}
}

func TestTotalsAreAppended(t *testing.T) {
	file := filepath.Join(t.TempDir(), "totals")
	for _, events := range []string{passing + end, failing + skipping + end} {
		var out strings.Builder
		run([]string{"-totals", file}, strings.NewReader(events), &out, &out, false)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "1 0 0\n0 1 1\n"; string(got) != want {
		t.Errorf("totals %q, want %q", got, want)
	}
}
