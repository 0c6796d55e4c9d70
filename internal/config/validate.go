// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/sandbox"
	"github.com/neighpin/neighpin/pkg/selection"
)

var (
	pluginName  = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`) // nri pkg/api/plugin.go, CheckPluginName
	pluginIndex = regexp.MustCompile(`^[0-9]{2}$`)
)

// Validate reports everything that cannot be meant, in the same order each time.
func (c Config) Validate() error {
	var f faults
	if err := c.Selection().Validate(); err != nil {
		f = append(f, err)
	}
	c.Flags().VisitAll(func(flag *pflag.Flag) {
		if text := flag.Value.String(); strings.ContainsFunc(text, unprintable) {
			f.add(flag.Name, "%q, want printable text", text)
		}
	})
	c.judgeSelection(&f)
	c.judgePlaces(&f)
	c.judgeServing(&f)
	// Maps have no order, and a message should be the same each time.
	slices.SortFunc(f, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(f...)
}

// faults are what cannot be meant, one for each key.
type faults []error

func (f *faults) add(flag, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s (--%s): %s", Key(flag), flag, fmt.Sprintf(format, args...)))
}

// judgeSelection judges whose pods are pinned, to what, and what else is done for them.
func (c Config) judgeSelection(f *faults) {
	if len(c.Handlers) == 0 && c.PodAnnotations == string(selection.Ignore) {
		f.add("handlers", "empty, while podAnnotations is %s: no pod could ever be pinned", c.PodAnnotations)
	}
	if c.MaxNeighbors < 1 || c.MaxNeighbors > annotation.MaxNeighbors {
		f.add("max-neighbors", "%d, want 1 to %d", c.MaxNeighbors, annotation.MaxNeighbors)
	}
	if c.CompareInterval < Duration(time.Second) {
		f.add("compare-interval", "%s, want 1s or more", c.CompareInterval)
	}
	if c.Learned != LearnedOff && c.Learned != LearnedProbe {
		f.add("learned", "%q, want %s or %s", c.Learned, LearnedOff, LearnedProbe)
	}
	if c.LearnedInterval < Duration(100*time.Millisecond) {
		f.add("learned-interval", "%s, want 100ms or more", c.LearnedInterval)
	}
	switch sandbox.HostStatePolicy(c.HostState) {
	case sandbox.HostStateOff, sandbox.HostStateReport, sandbox.HostStateClean:
	default:
		f.add("host-state", "%q, want %s, %s or %s", c.HostState, sandbox.HostStateOff, sandbox.HostStateReport, sandbox.HostStateClean)
	}
}

// judgePlaces judges the paths, and by what names the runtime knows us.
func (c Config) judgePlaces(f *faults) {
	if !filepath.IsAbs(c.NRISocket) {
		f.add("nri-socket", "%q, want an absolute path", c.NRISocket)
	}
	if !ownFolder(c.StateDir) {
		f.add("state-dir", "%q, want the absolute path of a folder of its own, such as %s", c.StateDir, DefaultStateDir)
	}
	if c.ContainerdSocket != "" && !filepath.IsAbs(c.ContainerdSocket) {
		f.add("containerd-socket", "%q, want an absolute path or none", c.ContainerdSocket)
	}
	if c.CNIResults != "" && !filepath.IsAbs(c.CNIResults) {
		f.add("cni-results", "%q, want an absolute path or none", c.CNIResults)
	}
	if len(c.NetNSDirs) == 0 || slices.ContainsFunc(c.NetNSDirs, func(dir string) bool { return !filepath.IsAbs(dir) }) {
		f.add("netns-dirs", "%q, want absolute paths", c.NetNSDirs)
	}
	if !pluginName.MatchString(c.PluginName) {
		f.add("plugin-name", "%q, want letters, digits and _.+-", c.PluginName)
	}
	if !pluginIndex.MatchString(c.PluginIndex) {
		f.add("plugin-index", "%q, want two digits", c.PluginIndex)
	}
	if c.ContainerdNamespace == "" {
		f.add("containerd-namespace", "empty")
	}
}

// ownFolder tells that a path could be that of a folder with nothing else in it. One
// at the root, such as /etc or /run, is the system's, and what is mounted into the
// daemon's container should not be that.
func ownFolder(path string) bool {
	return filepath.IsAbs(path) && strings.Count(filepath.Clean(path), "/") > 1
}

// judgeServing judges what the daemon says of itself, and where.
func (c Config) judgeServing(f *faults) {
	if _, _, err := net.SplitHostPort(c.MetricsAddress); c.MetricsAddress != "" && err != nil {
		f.add("metrics-address", "%q, want host:port, such as :9717, or none", c.MetricsAddress)
	}
	if c.Pprof && c.MetricsAddress == "" {
		f.add("pprof", "true, while metricsAddress is empty: there is nowhere to serve profiles")
	}
	if _, err := logrus.ParseLevel(c.LogLevel); err != nil {
		f.add("log-level", "%q, want error, warn, info, debug or trace", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		f.add("log-format", "%q, want text or json", c.LogFormat)
	}
}

// unprintable tells what no name or path of a node's has, and no file of YAML can:
// it may come from the environment, and would go to logs.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
