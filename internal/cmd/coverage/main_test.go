// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const profile = `mode: set
example.org/m/a/x.go:3.20,5.2 3 1
example.org/m/a/x.go:7.20,9.2 1 0
example.org/m/b/y.go:3.20,5.2 9 4
example.org/m/b/y.go:11.5,14.2 1 0
`

func TestEachPackageIsHeldToTheLeast(t *testing.T) {
	for scenario, c := range map[string]struct {
		profile string
		args    []string
		code    int
		says    []string
		silent  string
	}{
		"no least":            {profile: profile, says: []string{"75.0 %      3 of     4  example.org/m/a\n", "90.0 %      9 of    10  example.org/m/b\n", "85.7 %     12 of    14  total\n"}, silent: "BELOW"},
		"one is below":        {profile: profile, args: []string{"-least", "85"}, code: 1, says: []string{"m/a  BELOW 85 %\n", "m/b\n", "total\n"}},
		"all are":             {profile: profile, args: []string{"-least", "95"}, code: 1, says: []string{"m/b  BELOW 95 %\n", "total  BELOW 95 %\n"}},
		"just enough":         {profile: profile, args: []string{"-least", "75"}, silent: "BELOW"},
		"with what is missed": {profile: profile, args: []string{"-v"}, says: []string{"not reached: example.org/m/a/x.go:7-9\nnot reached: example.org/m/b/y.go:11-14\n"}, silent: "x.go:3"},
		"reached by another package's test": {profile: profile + "example.org/m/a/x.go:7.20,9.2 1 2\nexample.org/m/b/y.go:3.20,5.2 9 0\n", args: []string{"-v"},
			says: []string{"100.0 %      4 of     4  example.org/m/a\n", "90.0 %      9 of    10  example.org/m/b\n"}},
		"nothing was tested": {profile: "mode: set\n", code: 1, says: []string{"no statements"}},
		"no profile":         {profile: "FAIL\n", code: 1, says: []string{`"FAIL"`}},
		"an unknown flag":    {profile: profile, args: []string{"-x"}, code: 2, says: []string{"-x"}},
	} {
		t.Run(scenario, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "profile")
			if err := os.WriteFile(file, []byte(c.profile), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			code := run(append(c.args, file), &out, &out)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("lacks %q:\n%s", want, out.String())
				}
			}
			if c.silent != "" && strings.Contains(out.String(), c.silent) {
				t.Errorf("says %q:\n%s", c.silent, out.String())
			}
		})
	}
}

func TestWithoutAProfileNothingIsMeasured(t *testing.T) {
	var out strings.Builder
	if code := run(nil, &out, &out); code != 2 || !strings.Contains(out.String(), "one profile") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	if code := run([]string{filepath.Join(t.TempDir(), "gone")}, &out, &out); code != 1 || !strings.Contains(out.String(), "no such file") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}
