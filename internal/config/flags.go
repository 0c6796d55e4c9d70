// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/neighpin/neighpin/pkg/selection"
)

// Flags binds a flag to every key. The flag's name is the key's with hyphens;
// this is the one place where the keys are described.
func (c *Config) Flags() *pflag.FlagSet {
	set := pflag.NewFlagSet("config", pflag.ContinueOnError)
	set.StringSliceVar(&c.Handlers, "handlers", c.Handlers, "globs of the runtime handlers whose pods are pinned; the default runtime, which has no handler name, is matched by its type (io.containerd.runsc.v1 is runsc)")
	set.StringSliceVar(&c.Annotate, "annotate", c.Annotate, "globs of the runtime handlers whose containers get the annotation")
	set.StringVar(&c.PodAnnotations, "pod-annotations", c.PodAnnotations, "whose "+selection.PinAnnotation+" counts: allow (\"true\" and \"false\"), optIn (\"true\" only) or ignore; with enforce the default is optIn")
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

// Key is the file's name of a flag: max-neighbors is maxNeighbors.
func Key(flag string) string {
	parts := strings.Split(flag, "-")
	for i, part := range parts[1:] {
		parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
	}
	return strings.Join(parts, "")
}

// Env is a flag's environment variable: max-neighbors is NEIGHPIN_MAX_NEIGHBORS.
func Env(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Table is the table of docs/configuration.md, which a test compares with the file:
// one row for each key.
func Table(set *pflag.FlagSet) []string {
	var rows []string
	set.VisitAll(func(f *pflag.Flag) {
		value := strings.Trim(f.DefValue, "[]")
		rows = append(rows, fmt.Sprintf("| `%s` | `--%s` | `%s` | `%s` | %s |", Key(f.Name), f.Name, Env(f.Name), value, f.Usage))
	})
	return rows
}
