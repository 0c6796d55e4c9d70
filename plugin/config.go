// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// Config is the daemon's configuration: the keys of its file. Each has a flag
// and an environment variable besides, see keys.
type Config struct {
	Handlers            []string `json:"handlers"`
	Annotate            []string `json:"annotate"`
	PodAnnotations      string   `json:"podAnnotations"`
	ExcludeNamespaces   []string `json:"excludeNamespaces"`
	MaxNeighbors        int      `json:"maxNeighbors"`
	CompareInterval     duration `json:"compareInterval"`
	Learned             string   `json:"learned"`
	LearnedInterval     duration `json:"learnedInterval"`
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
	defaultStateDir = "/run/neighpin"
	envPrefix       = "NEIGHPIN_"
	// The values of "learned".
	learnedOff   = "off"
	learnedProbe = "probe"
	// notGiven stands for podAnnotations until a configuration is complete.
	notGiven = "(not given)"
)

// duration is a time as people write it, such as 5m.
type duration time.Duration

// String is time.Duration's without parts that are zero.
func (d duration) String() string {
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
func (*duration) Type() string { return "duration" }

// Set reads a flag's value.
func (d *duration) Set(text string) error {
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration such as 5m", text)
	}
	*d = duration(parsed)
	return nil
}

// MarshalText and UnmarshalText are the value's form in the file.
func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the value from the file.
func (d *duration) UnmarshalText(text []byte) error { return d.Set(string(text)) }

func defaultConfig() Config {
	return Config{
		Handlers:            []string{"runsc*", "gvisor*", "kata*"},
		Annotate:            []string{"runsc*", "gvisor*"},
		PodAnnotations:      string(sandbox.AllowAnnotation),
		ExcludeNamespaces:   []string{},
		MaxNeighbors:        64,
		CompareInterval:     duration(sandbox.DefaultCompareInterval),
		Learned:             learnedOff,
		LearnedInterval:     duration(sandbox.DefaultLearnInterval),
		HostState:           string(sandbox.HostStateReport),
		StateDir:            defaultStateDir,
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

// flags binds a flag to every key. The flag's name is the key's with hyphens;
// this is the one place where the keys are described.
func (c *Config) flags() *pflag.FlagSet {
	set := pflag.NewFlagSet("config", pflag.ContinueOnError)
	set.StringSliceVar(&c.Handlers, "handlers", c.Handlers, "globs of the runtime handlers whose pods are pinned; the default runtime, which has no handler name, is matched by its type (io.containerd.runsc.v1 is runsc)")
	set.StringSliceVar(&c.Annotate, "annotate", c.Annotate, "globs of the runtime handlers whose containers get the annotation")
	set.StringVar(&c.PodAnnotations, "pod-annotations", c.PodAnnotations, "whose "+sandbox.PinAnnotation+" counts: allow (\"true\" and \"false\"), optIn (\"true\" only) or ignore; with enforce the default is optIn")
	set.StringSliceVar(&c.ExcludeNamespaces, "exclude-namespaces", c.ExcludeNamespaces, "globs of the Kubernetes namespaces whose pods are never selected, whatever their annotation says")
	set.IntVar(&c.MaxNeighbors, "max-neighbors", c.MaxNeighbors, "limit of pins of one sandbox; what is above is reported as skipped")
	set.Var(&c.CompareInterval, "compare-interval", "time between two comparisons of all pins with what is true, beside the events that announce changes; at least 1s; with more than 250 sandboxes it grows with their number, as long as the events are heard")
	set.StringVar(&c.Learned, "learned", c.Learned, "gateways of which the host knows no address: off (not pinned) or probe (asked for on the wire, pinned when two answers agree, and watched; needs CAP_NET_RAW)")
	set.Var(&c.LearnedInterval, "learned-interval", "time between two questions for a learned gateway; at least 100ms")
	set.BoolVar(&c.Enforce, "enforce", c.Enforce, "refuse selected pods whose gateways cannot be pinned")
	set.StringVar(&c.HostState, "host-state", c.HostState, "what others left on the host for a starting pod's addresses, neighbors and rules of the bridge family that lead to nobody: off, report or clean (remove it)")
	set.BoolVar(&c.ReturnPath, "return-path", c.ReturnPath, "write the pod's addresses as permanent neighbors to the host's end of a link that leads to one pod alone, so that the host need not ask for the pod")
	set.BoolVar(&c.Observe, "observe", c.Observe, "count what selected pods ask for by ARP and neighbor discovery, by a small eBPF program on the host's ends of their links; needs Linux 6.6 and CAP_BPF or CAP_SYS_ADMIN")
	set.StringVar(&c.StateDir, "state-dir", c.StateDir, "directory of the records and of the status socket")
	set.StringSliceVar(&c.NetNSDirs, "netns-dirs", c.NetNSDirs, "directories in which the runtime keeps network namespaces")
	set.StringVar(&c.CNIResults, "cni-results", c.CNIResults, "directory in which libcni keeps the results of CNI's work, which tell soonest that it has finished; empty means that containerd is asked alone")
	set.StringVar(&c.NRISocket, "nri-socket", c.NRISocket, "NRI's socket; mount its directory, since the runtime makes the socket anew at each start")
	set.StringVar(&c.PluginName, "plugin-name", c.PluginName, "name to register with NRI; a runtime that launches the plugin gives its own")
	set.StringVar(&c.PluginIndex, "plugin-index", c.PluginIndex, "index to register with NRI, two digits")
	set.StringVar(&c.ContainerdSocket, "containerd-socket", c.ContainerdSocket, "containerd's socket, for its sandbox store; empty means no early path, NRI only")
	set.StringVar(&c.ContainerdNamespace, "containerd-namespace", c.ContainerdNamespace, "containerd's namespace of the CRI plugin")
	set.StringVar(&c.MetricsAddress, "metrics-address", c.MetricsAddress, "host:port for /metrics, /healthz, /readyz and the status page at /; empty means none")
	set.BoolVar(&c.Pprof, "pprof", c.Pprof, "serve Go's profiles at /debug/pprof/ of metricsAddress, to whoever can reach it")
	set.BoolVar(&c.Events, "events", c.Events, "write Kubernetes Events about pods in trouble; needs a service account that may create and patch events")
	set.StringVar(&c.NodeName, "node-name", c.NodeName, "the node's name in Events, in the status and on its page; empty means the host's name")
	set.StringVar(&c.LogLevel, "log-level", c.LogLevel, "error, warn, info, debug or trace")
	set.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
	return set
}

// key is the file's name of a flag: max-neighbors is maxNeighbors.
func key(flag string) string {
	parts := strings.Split(flag, "-")
	for i, part := range parts[1:] {
		parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
	}
	return strings.Join(parts, "")
}

func env(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configurationTable is the table of docs/configuration.md, which a test compares
// with the file: one row for each key.
func configurationTable(set *pflag.FlagSet) []string {
	var rows []string
	set.VisitAll(func(f *pflag.Flag) {
		value := strings.Trim(f.DefValue, "[]")
		rows = append(rows, fmt.Sprintf("| `%s` | `--%s` | `%s` | `%s` | %s |", key(f.Name), f.Name, env(f.Name), value, f.Usage))
	})
	return rows
}

// loader puts a configuration together: defaults, then the file, then the
// environment, then flags.
type loader struct {
	path      string // of the file; empty for none
	given     *pflag.FlagSet
	lookupEnv func(string) (string, bool)
}

// load returns the effective configuration. text, if any, stands in the file's
// place: it is what NRI has for a plugin that the runtime launched.
func (l loader) load(text string) (Config, error) {
	config := defaultConfig()
	config.PodAnnotations = notGiven
	source := "configuration from NRI"
	if text == "" && l.path != "" {
		data, err := os.ReadFile(l.path)
		if err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
		source, text = "configuration "+l.path, string(data)
	}
	if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
		return Config{}, fmt.Errorf("parse %s: %w", source, inWordsOfTheFile(err))
	}
	if config.Learned == "false" {
		config.Learned = learnedOff // "off" without quotes is YAML's word for false
	}
	if config.HostState == "false" {
		config.HostState = string(sandbox.HostStateOff)
	}
	var errs []error
	fromEnv := config.flags()
	fromEnv.VisitAll(func(f *pflag.Flag) {
		if value, ok := l.lookupEnv(env(f.Name)); ok {
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", env(f.Name), err))
			}
		}
	})
	// A fresh set, so that a list replaces the environment's instead of growing it.
	fromFlags := config.flags()
	l.given.Visit(func(f *pflag.Flag) {
		if own := fromFlags.Lookup(f.Name); own != nil {
			value := f.Value.String()
			if list, ok := f.Value.(pflag.SliceValue); ok {
				value = strings.Join(list.GetSlice(), ",")
			}
			errs = append(errs, own.Value.Set(value))
		}
	})
	if config.PodAnnotations == notGiven {
		config.PodAnnotations = defaultConfig().PodAnnotations
		if config.Enforce {
			config.PodAnnotations = string(sandbox.OptInAnnotation) // tenants may not opt out
		}
	}
	errs = append(errs, config.validate())
	return config, errors.Join(errs...)
}

// inWordsOfTheFile is an error of the file's reader without the reader's own
// detours: it takes YAML by way of JSON into Go's types, none of which the file has.
func inWordsOfTheFile(err error) error {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		text := strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")
		return errors.New(strings.TrimPrefix(text, "json: "))
	}
	want := "text"
	switch {
	case wrong.Type == reflect.TypeFor[duration]():
		want = "a duration such as 5m"
	case wrong.Type.Kind() == reflect.Slice:
		want = `a list such as ["a", "b"]`
	case wrong.Type.Kind() == reflect.Bool:
		want = "true or false"
	case wrong.Type.Kind() == reflect.Int:
		want = "a whole number"
	case wrong.Type.Kind() == reflect.Struct:
		want = "keys with values"
	}
	return fmt.Errorf("%s: %s, want %s", cmp.Or(wrong.Field, "the file"), wrong.Value, want)
}

var (
	pluginName  = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`) // nri pkg/api/plugin.go, CheckPluginName
	pluginIndex = regexp.MustCompile(`^[0-9]{2}$`)
)

// validate reports everything that cannot be meant.
func (c Config) validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s (--%s): %s", key(flag), flag, fmt.Sprintf(format, args...)))
	}
	if err := c.selector().Validate(); err != nil {
		errs = append(errs, err)
	}
	c.flags().VisitAll(func(f *pflag.Flag) {
		if text := f.Value.String(); strings.ContainsFunc(text, unprintable) {
			bad(f.Name, "%q, want printable text", text)
		}
	})
	if len(c.Handlers) == 0 && c.PodAnnotations == string(sandbox.IgnoreAnnotation) {
		bad("handlers", "empty, while podAnnotations is %s: no pod could ever be pinned", c.PodAnnotations)
	}
	if c.MaxNeighbors < 1 || c.MaxNeighbors > annotation.MaxNeighbors {
		bad("max-neighbors", "%d, want 1 to %d", c.MaxNeighbors, annotation.MaxNeighbors)
	}
	if c.CompareInterval < duration(time.Second) {
		bad("compare-interval", "%s, want 1s or more", c.CompareInterval)
	}
	if c.Learned != learnedOff && c.Learned != learnedProbe {
		bad("learned", "%q, want %s or %s", c.Learned, learnedOff, learnedProbe)
	}
	if c.LearnedInterval < duration(100*time.Millisecond) {
		bad("learned-interval", "%s, want 100ms or more", c.LearnedInterval)
	}
	switch sandbox.HostStatePolicy(c.HostState) {
	case sandbox.HostStateOff, sandbox.HostStateReport, sandbox.HostStateClean:
	default:
		bad("host-state", "%q, want %s, %s or %s", c.HostState, sandbox.HostStateOff, sandbox.HostStateReport, sandbox.HostStateClean)
	}
	for flag, path := range map[string]string{"state-dir": c.StateDir, "nri-socket": c.NRISocket} {
		if !filepath.IsAbs(path) {
			bad(flag, "%q, want an absolute path", path)
		}
	}
	if c.ContainerdSocket != "" && !filepath.IsAbs(c.ContainerdSocket) {
		bad("containerd-socket", "%q, want an absolute path or none", c.ContainerdSocket)
	}
	if c.CNIResults != "" && !filepath.IsAbs(c.CNIResults) {
		bad("cni-results", "%q, want an absolute path or none", c.CNIResults)
	}
	if len(c.NetNSDirs) == 0 || slices.ContainsFunc(c.NetNSDirs, func(dir string) bool { return !filepath.IsAbs(dir) }) {
		bad("netns-dirs", "%q, want absolute paths", c.NetNSDirs)
	}
	if !pluginName.MatchString(c.PluginName) {
		bad("plugin-name", "%q, want letters, digits and _.+-", c.PluginName)
	}
	if !pluginIndex.MatchString(c.PluginIndex) {
		bad("plugin-index", "%q, want two digits", c.PluginIndex)
	}
	if _, _, err := net.SplitHostPort(c.MetricsAddress); c.MetricsAddress != "" && err != nil {
		bad("metrics-address", "%q, want host:port, such as :9717, or none", c.MetricsAddress)
	}
	if c.Pprof && c.MetricsAddress == "" {
		bad("pprof", "true, while metricsAddress is empty: there is nowhere to serve profiles")
	}
	if c.ContainerdNamespace == "" {
		bad("containerd-namespace", "empty")
	}
	if _, err := logrus.ParseLevel(c.LogLevel); err != nil {
		bad("log-level", "%q, want error, warn, info, debug or trace", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		bad("log-format", "%q, want text or json", c.LogFormat)
	}
	// Maps have no order, and a message should be the same each time.
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// unprintable tells what no name or path of a node's has, and no file of YAML can:
// it may come from the environment, and would go to logs.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

func (c Config) selector() sandbox.Selector {
	return sandbox.Selector{
		Handlers: c.Handlers, Annotate: c.Annotate, PodAnnotations: sandbox.AnnotationPolicy(c.PodAnnotations),
		ExcludeNamespaces: c.ExcludeNamespaces,
	}
}
