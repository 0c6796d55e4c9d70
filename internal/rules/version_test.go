// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"regexp"
	"strings"
	"testing"
)

// repeated is where a file of the repository names a release of its own.
var repeated = regexp.MustCompile(`ghcr\.io/neighpin/neighpin:(v\d[\w.+-]*)` +
	`|\bneighpin-v?(\d+\.\d+\.\d+[\w.+-]*?)(?:\.tgz|-linux|-image)` +
	`|releases/download/(v\d[\w.+-]*)` +
	`|\bVERSION=(v\d[\w.+-]*)` +
	`|(?m:^(?:appVersion|version): (v?\d+\.\d+\.\d+)$)` +
	`|app\.kubernetes\.io/version: "(v\d[^"]*)"`)

// The file VERSION is the one place. `make manifests` takes it to the chart and the manifests; documents follow by hand.
func TestThereIsOneVersion(t *testing.T) {
	version := strings.TrimSpace(page(t, "VERSION"))
	if !regexp.MustCompile(`^v0\.\d+\.\d+$`).MatchString(version) {
		t.Fatalf("VERSION is %q, want one of 0.x such as v0.1.0", version)
	}
	seen := map[string]int{}
	for _, name := range append(append(filesWith(t, ".yaml"), filesWith(t, ".md")...), "Dockerfile") {
		for _, fault := range versionFaults(name, page(t, name), version, seen) {
			t.Error(fault)
		}
	}
	for _, name := range []string{"deploy/helm/neighpin/Chart.yaml", "deploy/install.yaml", "deploy/base/daemonset.yaml"} {
		if seen[name] == 0 {
			t.Errorf("%s names no version: the rule is blind", name)
		}
	}
}

func versionFaults(name, text, version string, seen map[string]int) []string {
	var found []string
	for _, m := range repeated.FindAllStringSubmatch(text, -1) {
		seen[name]++
		for _, group := range m[1:] {
			if group != "" && strings.TrimPrefix(group, "v") != strings.TrimPrefix(version, "v") {
				found = append(found, name+" says "+m[0]+", and the file VERSION "+version+": run make manifests, or change it by hand")
			}
		}
	}
	return found
}

func TestAnotherVersionIsFound(t *testing.T) {
	for text, faults := range map[string]int{
		"image: ghcr.io/neighpin/neighpin:v0.1.0\n":                  0,
		"image: ghcr.io/neighpin/neighpin:v0.2.0\n":                  1,
		"sed 's|ghcr.io/neighpin/neighpin:.*|x|'":                    0,
		"version: 0.2.0\nappVersion: v0.2.0\n":                       2,
		"version: 1\n":                                               0,
		"curl https://x/releases/download/v0.2.0/neighpin-0.2.0.tgz": 2,
		"tar xf neighpin-v0.1.0-linux-amd64.tar.gz":                  0,
		"tar xf neighpin-v0.1.1-linux-amd64.tar.gz":                  1,
		"docker build --build-arg VERSION=v0.3.0":                    1,
		`app.kubernetes.io/version: "v0.1.0"`:                        0,
	} {
		if got := versionFaults("x", text, "v0.1.0", map[string]int{}); len(got) != faults {
			t.Errorf("%q: faults %q, want %d", text, got, faults)
		}
	}
}

// A changelog begins with what is not released, and then has each release with its day, the newest first and none beyond VERSION.
func TestTheChangelogIsInOrder(t *testing.T) {
	var titles []string
	for line := range strings.Lines(page(t, "CHANGELOG.md")) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			titles = append(titles, strings.TrimSpace(title))
		}
	}
	for _, fault := range changelogFaults(titles, strings.TrimSpace(page(t, "VERSION"))) {
		t.Error(fault)
	}
}

func changelogFaults(titles []string, version string) []string {
	if len(titles) == 0 || titles[0] != "[Unreleased]" {
		return []string{"CHANGELOG.md does not begin with [Unreleased]"}
	}
	var found []string
	newer := numbers(version)
	for i, title := range titles[1:] {
		m := regexp.MustCompile(`^\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$`).FindStringSubmatch(title)
		if m == nil {
			found = append(found, "CHANGELOG.md has the section "+title+", want one such as [0.1.0] - 2026-11-22")
			continue
		}
		if this := numbers(m[1]); this > newer || i > 0 && this == newer {
			found = append(found, "CHANGELOG.md has "+title+" below an older release, or beyond "+version)
		} else {
			newer = this
		}
	}
	return found
}

// numbers makes versions comparable as strings.
func numbers(version string) string {
	var padded strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(version, "v"), ".") {
		padded.WriteString(strings.Repeat("0", max(0, 6-len(part))) + part)
	}
	return padded.String()
}

func TestFaultsOfTheChangelogAreFound(t *testing.T) {
	for titles, faults := range map[string]int{
		"[Unreleased]": 0,
		"[Unreleased]|[0.10.0] - 2026-12-01|[0.9.1] - 2026-11-01": 0,
		"[Unreleased]|[0.9.1] - 2026-11-01|[0.10.0] - 2026-12-01": 1,
		"[Unreleased]|[0.11.0] - 2026-11-01":                      1,
		"[Unreleased]|0.9.1":                                      1,
		"[0.9.1] - 2026-11-01":                                    1,
	} {
		if got := changelogFaults(strings.Split(titles, "|"), "v0.10.0"); len(got) != faults {
			t.Errorf("%s: faults %q, want %d", titles, got, faults)
		}
	}
}

// One patch release of Go builds releases, whoever starts the build: the modules name it, and the Dockerfile's image has it.
func TestOneGoBuildsReleases(t *testing.T) {
	const want = `\ntoolchain go(\d+\.\d+\.\d+)\n`
	first := regexp.MustCompile(want).FindStringSubmatch(page(t, "go.mod"))
	second := regexp.MustCompile(want).FindStringSubmatch(page(t, "e2e/go.mod"))
	image := regexp.MustCompile(`FROM --platform=\$BUILDPLATFORM golang:(\d+\.\d+\.\d+)@sha256:[0-9a-f]{64} AS build\n`).FindStringSubmatch(page(t, "Dockerfile"))
	if first == nil || second == nil || image == nil {
		t.Fatalf("go.mod names %q, e2e/go.mod %q, the Dockerfile's image, which has a digest, %q: one of them does not", first, second, image)
	}
	if first[1] != second[1] || first[1] != image[1] {
		t.Errorf("go.mod names Go %s, e2e/go.mod %s, the Dockerfile %s", first[1], second[1], image[1])
	}
}
