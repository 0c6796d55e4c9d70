// SPDX-License-Identifier: Apache-2.0

// Package config is the daemon's configuration: its keys, with a flag and an
// environment variable each, how it is put together and judged, and how its file is
// followed while the daemon runs; and the file of the OCI wrapper and hook.
package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/neighpin/neighpin/pkg/sandbox"
	"github.com/neighpin/neighpin/pkg/selection"
)

// Config is the daemon's configuration: the keys of its file. Each has a flag
// and an environment variable besides, see Flags.
type Config struct {
	Handlers            []string `json:"handlers"`
	Annotate            []string `json:"annotate"`
	PodAnnotations      string   `json:"podAnnotations"`
	ExcludeNamespaces   []string `json:"excludeNamespaces"`
	MaxNeighbors        int      `json:"maxNeighbors"`
	CompareInterval     Duration `json:"compareInterval"`
	Learned             string   `json:"learned"`
	LearnedInterval     Duration `json:"learnedInterval"`
	Enforce             bool     `json:"enforce"`
	HostState           string   `json:"hostState"`
	ReturnPath          bool     `json:"returnPath"`
	Observe             bool     `json:"observe"`
	StateDir            string   `json:"stateDir"`
	NetNSDirs           []string `json:"netnsDirs"`
	CNIResults          string   `json:"cniResults"`
	NRISocket           string   `json:"nriSocket"`
	PluginName          string   `json:"pluginName"`
	PluginIndex         string   `json:"pluginIndex"`
	ContainerdSocket    string   `json:"containerdSocket"`
	ContainerdNamespace string   `json:"containerdNamespace"`
	MetricsAddress      string   `json:"metricsAddress"`
	Pprof               bool     `json:"pprof"`
	Events              bool     `json:"events"`
	NodeName            string   `json:"nodeName"`
	LogLevel            string   `json:"logLevel"`
	LogFormat           string   `json:"logFormat"`
}

const (
	// DefaultStateDir is the folder of records and of the status socket.
	DefaultStateDir = "/run/neighpin"
	// EnvPrefix begins the name of every key's environment variable.
	EnvPrefix = "NEIGHPIN_"
	// LearnedOff and LearnedProbe are the values of "learned".
	LearnedOff   = "off"
	LearnedProbe = "probe"
	// notGiven stands for podAnnotations until a configuration is complete.
	notGiven = "(not given)"
)

// Default is the configuration that nobody has changed.
func Default() Config {
	return Config{
		Handlers:            []string{"runsc*", "gvisor*", "kata*"},
		Annotate:            []string{"runsc*", "gvisor*"},
		PodAnnotations:      string(selection.Allow),
		ExcludeNamespaces:   []string{},
		MaxNeighbors:        64,
		CompareInterval:     Duration(sandbox.DefaultCompareInterval),
		Learned:             LearnedOff,
		LearnedInterval:     Duration(sandbox.DefaultLearnInterval),
		HostState:           string(sandbox.HostStateReport),
		StateDir:            DefaultStateDir,
		NetNSDirs:           []string{"/var/run/netns"},
		CNIResults:          "/var/lib/cni/results",
		NRISocket:           "/var/run/nri/nri.sock",
		PluginName:          "neighpin",
		PluginIndex:         "10",
		ContainerdSocket:    "/run/containerd/containerd.sock",
		ContainerdNamespace: "k8s.io",
		LogLevel:            "info",
		LogFormat:           "text",
	}
}

// Selection is what the configuration says of which pods are pinned.
func (c Config) Selection() selection.Rules {
	return selection.Rules{
		Handlers: c.Handlers, Annotate: c.Annotate, PodAnnotations: selection.Policy(c.PodAnnotations),
		ExcludeNamespaces: c.ExcludeNamespaces,
	}
}

// Duration is a time as people write it, such as 5m.
type Duration time.Duration

// String is time.Duration's without parts that are zero.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Type names the type in a command's help.
func (*Duration) Type() string { return "duration" }

// Set reads a flag's value.
func (d *Duration) Set(text string) error {
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration such as 5m", text)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText and UnmarshalText are the value's form in the file.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the value from the file.
func (d *Duration) UnmarshalText(text []byte) error { return d.Set(string(text)) }
