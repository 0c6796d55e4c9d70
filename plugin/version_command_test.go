// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"testing"
)

func TestTheVersionIsTheLinkersElseTheGoCommands(t *testing.T) {
	built := func(version string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "github.com/neighpin/neighpin", Version: version}}
	}
	for scenario, c := range map[string]struct {
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		"a release":                             {"v0.1.0", built("(devel)"), "v0.1.0"},
		"a release that the Go command knows":   {"v0.1.0", built("v0.2.0"), "v0.1.0"},
		"go install of a version":               {"", built("v0.1.0"), "v0.1.0"},
		"go build in a checkout":                {"", built("v0.1.1-0.20261122162223-a51d0957c562+dirty"), "v0.1.1-0.20261122162223-a51d0957c562+dirty"},
		"go build that looks at no checkout":    {"", built("(devel)"), "devel"},
		"a module without a version":            {"", built(""), "devel"},
		"a program that was built without them": {"", nil, "devel"},
	} {
		if got := versionOf(c.linked, c.info); got != c.want {
			t.Errorf("%s: %s, want %s", scenario, got, c.want)
		}
	}
}
