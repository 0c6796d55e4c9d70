// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// versionFile is the one place that says which release the tree is, or becomes.
const versionFile = "VERSION"

// Version is the release that the tree is, or becomes: "v0.1.0", from the file VERSION.
func (d Deploy) Version() (string, error) {
	data, err := os.ReadFile(d.Path(versionFile))
	if err != nil {
		return "", fmt.Errorf("read the release's version: %w", err)
	}
	version := strings.TrimSuffix(string(data), "\n")
	if !semver.IsValid(version) || semver.Canonical(version) != version {
		return "", fmt.Errorf("read the release's version: %s holds %q, want one such as v0.1.0", versionFile, version)
	}
	return version, nil
}

// stamp is a place that repeats the version, because Helm or kustomize wants it there.
type stamp struct {
	file string
	line *regexp.Regexp
	// text makes the line of the version, "v0.1.0".
	text func(version string) string
}

// stamps are all such places but what is rendered from them.
func stamps() []stamp {
	return []stamp{
		{chartDir + "/Chart.yaml", regexp.MustCompile(`(?m)^version: .*$`), func(v string) string { return "version: " + ChartVersion(v) }},
		{chartDir + "/Chart.yaml", regexp.MustCompile(`(?m)^appVersion: .*$`), func(v string) string { return "appVersion: " + v }},
		{"deploy/base/daemonset.yaml", regexp.MustCompile(`(?m)\bghcr\.io/neighpin/neighpin:.*$`), func(v string) string { return "ghcr.io/neighpin/neighpin:" + v }},
	}
}

// ChartVersion is the version of the chart that brings a version of neighpin: Helm's have no v.
func ChartVersion(version string) string { return strings.TrimPrefix(version, "v") }

// stamped are the files with the version in its places, by path.
func (d Deploy) stamped() (map[string]string, error) {
	version, err := d.Version()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, s := range stamps() {
		if _, ok := files[s.file]; !ok {
			data, err := os.ReadFile(d.Path(s.file))
			if err != nil {
				return nil, fmt.Errorf("write the version into %s: %w", s.file, err)
			}
			files[s.file] = string(data)
		}
		if found := len(s.line.FindAllString(files[s.file], -1)); found != 1 {
			return nil, fmt.Errorf("write the version into %s: %d lines match %s, want one", s.file, found, s.line)
		}
		files[s.file] = s.line.ReplaceAllLiteralString(files[s.file], s.text(version))
	}
	return files, nil
}

// Package makes the chart's package in dir for a version of neighpin, which is the chart's own too, and returns its path. All files
// in it are of date, so that it has the same bytes every time.
func (d Deploy) Package(ctx context.Context, version string, date time.Time, dir string) (string, error) {
	env := []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(date.Unix(), 10)}
	_, err := d.runWith(ctx, env, "package", d.Path(chartDir), "--version", ChartVersion(version), "--app-version", version, "--destination", dir)
	if err != nil {
		return "", fmt.Errorf("package the chart: %w", err)
	}
	return filepath.Join(dir, "neighpin-"+ChartVersion(version)+".tgz"), nil
}
