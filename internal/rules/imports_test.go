// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/neighpin/neighpin"

// wall is one forbidden direction in the import graph of the root module.
type wall struct {
	// from are packages relative to the module; "pkg/..." is all below pkg.
	from []string
	// except are packages that from covers and the wall does not.
	except []string
	// to are import paths; a trailing "..." is all below, "./" the module's own.
	to []string
	// direct walls look at the import statements only, the others at everything
	// that is linked in with them.
	direct bool
	why    string
}

var walls = []wall{
	{
		from: []string{"pkg/..."}, to: []string{"./hooks/...", "./plugin/..."},
		why: "imports run plugin -> hooks -> pkg: pkg is what others import, and must not bring the daemon along",
	},
	{
		from: []string{"hooks/..."}, to: []string{"./plugin/..."},
		why: "imports run plugin -> hooks -> pkg: handlers are given what they need, only main wires",
	},
	{
		from: []string{"pkg/..."}, to: []string{"github.com/containerd/nri/..."},
		why: "pkg is usable without NRI; events are translated in hooks/nri",
	},
	{
		from: []string{"pkg/..."}, to: []string{"github.com/sirupsen/logrus/..."}, direct: true,
		why: "NRI logs with logrus, so hooks may; a library is given a log/slog logger or returns errors",
	},
	{
		from: []string{"hooks/oci"}, to: []string{"github.com/sirupsen/logrus/...", "github.com/containerd/nri/...", "google.golang.org/..."}, direct: true,
		why: "the wrapper's messages are the runtime's in form and place, and it knows no daemon",
	},
	{
		// containerd's API module brings logrus with its ttrpc variants, and
		// pkg/sandbox, the daemon's engine, stands on it.
		from: []string{"pkg/..."}, except: []string{"pkg/containerd", "pkg/sandbox", "pkg/preflight"}, to: []string{"github.com/sirupsen/logrus/..."},
		why: "a runtime author who imports a package of pkg should not link a logger with global state",
	},
	{
		from: []string{"..."}, except: []string{"pkg/metrics"}, to: []string{"github.com/prometheus/..."}, direct: true,
		why: "what is worth telling is an event of the engine; pkg/metrics counts it",
	},
	{
		from: []string{"..."}, except: []string{"pkg/observe"}, to: []string{"github.com/cilium/ebpf/..."}, direct: true,
		why: "what runs in the kernel for us is one program that counts; nothing else may come to need it",
	},
	{
		from: []string{"..."}, except: []string{"pkg/containerd"}, to: []string{"k8s.io/cri-api/..."}, direct: true,
		why: "what is asked of the runtime is asked in one place, and this is asked by one command only",
	},
	{
		from: []string{"pkg/preflight"}, to: []string{"./pkg/sandbox", "./pkg/neighbor", "./hooks/...", "./pkg/metrics"},
		why: "a preflight judges a node, with or without a daemon; it changes nothing and knows no sandbox",
	},
	{
		from: []string{"..."}, to: []string{"k8s.io/client-go/...", "k8s.io/api/...", "k8s.io/apimachinery/..."},
		why: "two requests are all that is asked of the API server; client-go would make the binary half as large again (see pkg/events)",
	},
	{
		from: []string{"pkg/record", "pkg/selection"}, to: []string{"./pkg/sandbox", "./pkg/containerd"},
		why: "a record is what is known, and a choice what is wished, for whoever asks; who finds that out, and how, is the engine's",
	},
	{
		from: []string{"pkg/record"}, to: []string{"./pkg/selection"},
		why: "a sandbox's record says what was decided, not by which rules",
	},
	{
		from: []string{"pkg/selection"}, to: []string{"./pkg/neighbor", "./pkg/netns", "os", "os/...", "net", "syscall"}, direct: true,
		why: "selection is pure: the same pod and the same rules give the same choice",
	},
	{
		from: []string{"hooks/oci", "pkg/metrics", "pkg/events", "internal/eventlog"}, to: []string{"./pkg/sandbox"},
		why: "who reads records, counts events or writes one record in line needs no engine, and must not come to reach into one",
	},
	{
		from: []string{"pkg/observe"}, to: []string{"./..."},
		why: "whom to observe is told by the engine; the program knows links and addresses",
	},
	{
		from: []string{"pkg/neighbor", "pkg/annotation", "pkg/netns"},
		to:   []string{"github.com/containerd/...", "google.golang.org/...", "./pkg/containerd", "./pkg/sandbox", "./pkg/record", "./pkg/selection"},
		why:  "runtime authors import these three; a gRPC stack is not their burden",
	},
	{
		from: []string{"..."}, except: []string{"pkg/internal/rtnetlink"},
		to: []string{"github.com/vishvananda/netlink/...", "github.com/mdlayher/netlink/...", "github.com/jsimonetti/rtnetlink/..."}, direct: true,
		why: "netlink's traps (interrupted dumps, sockets in the wrong namespace, lost messages) are handled once, in pkg/internal/rtnetlink",
	},
	{
		from: []string{"..."}, except: []string{"pkg/neighbor", "pkg/hoststate", "pkg/view"}, to: []string{"./pkg/internal/rtnetlink"}, direct: true,
		why: "messages are read for those who say what is true of a sandbox and of the host; the engine asks these",
	},
	{
		from: []string{"pkg/internal/guard"}, to: []string{"./pkg/sandbox", "./pkg/record", "./pkg/probe", "./pkg/containerd", "./hooks/...", "./plugin/...", "github.com/sirupsen/logrus/..."},
		why: "the guard says when a sandbox is looked at, and the engine what a look is",
	},
	{
		from: []string{"pkg/internal/rtnetlink"}, to: []string{"./pkg/neighbor", "./pkg/netns", "./pkg/sandbox", "./pkg/hoststate", "./pkg/view", "./hooks/...", "./plugin/..."},
		why: "messages in, values out: nothing is decided there, and threads change their namespace in pkg/netns",
	},
	{
		from: []string{"pkg/neighbor"}, to: []string{"./pkg/probe", "./pkg/view"},
		why: "what may be forged is learned elsewhere, and handed to the decision by who wants it",
	},
	{
		from: []string{"..."}, except: []string{"pkg/netns"},
		to: []string{"github.com/vishvananda/netns/...", "github.com/containernetworking/plugins/..."}, direct: true,
		why: "threads change their namespace in pkg/netns only, where one that cannot return dies",
	},
	{
		from: []string{"pkg/annotation"}, to: []string{"./...", "nonstandard"},
		why: "the codec is pure: the standard library and nothing else",
	},
	{
		from: []string{"pkg/annotation"}, to: []string{"os/...", "net", "net/http/...", "syscall", "unsafe"}, direct: true,
		why: "the codec is pure: it reads no file, opens no socket and asks no clock of the machine",
	},
	{
		from: []string{"pkg/hoststate"}, to: []string{"./pkg/annotation", "./pkg/containerd", "./pkg/sandbox", "./pkg/record", "./pkg/selection"},
		why: "what is left on the host is judged by addresses; whose they are, and what is done about it, is the engine's",
	},
	{
		from: []string{"pkg/neighbor", "pkg/probe", "pkg/view"}, to: []string{"./pkg/annotation", "./pkg/hoststate", "./pkg/sandbox"},
		why: "the table and its transport do not know each other; the engine translates",
	},
	{
		from: []string{"pkg/...", "hooks/..."}, to: []string{"github.com/spf13/..."},
		why: "flags are parsed in plugin; the rest is given values",
	},
	{
		from: []string{"pkg/...", "hooks/...", "plugin/...", "internal/config", "internal/status", "internal/web", "internal/statuspage", "internal/eventlog", "internal/privileges"}, to: []string{"./internal/nstest", "./internal/rules"},
		why: "test fixtures do not belong in the product",
	},
	{
		from: []string{"..."}, except: []string{"plugin", "internal/statuspage", "internal/web", "internal/status", "internal/config"},
		to:  []string{"./internal/config", "./internal/status", "./internal/web", "./internal/statuspage", "./internal/eventlog", "./internal/privileges"},
		why: "they are the daemon's, and behind plugin alone; what an engine or a handler needs of a setting it is given as a value",
	},
	{
		from: []string{"internal/config", "internal/eventlog"}, to: []string{"./hooks/...", "./plugin/...", "./internal/status", "net/http"}, direct: true,
		why: "settings are values and a log is lines: neither knows who serves what",
	},
	{
		from: []string{"internal/statuspage"}, to: []string{"./hooks/...", "./plugin/...", "./pkg/containerd", "./pkg/metrics", "net", "os", "os/..."}, direct: true,
		why: "the page shows what it is given: it asks nobody, reads no file and opens no socket",
	},
	{
		from: []string{"plugin/..."}, to: []string{"./e2e/...", "github.com/containerd/containerd/v2/..."},
		why: "the daemon stays small: containerd's API module, not the whole client",
	},
}

func TestImportsRunInOneDirection(t *testing.T) {
	graph := loadGraph(t)
	for _, w := range walls {
		for _, breach := range graph.breaches(w) {
			t.Errorf("%s\n\tforbidden because %s", breach, w.why)
		}
		if len(graph.covered(w)) == 0 {
			t.Errorf("a wall from %v covers no package: it guards nothing (because %s)", w.from, w.why)
		}
	}
}

// The walls are only worth something if a breach is seen, so one of each kind is
// put into a small graph.
func TestBreachesAreFound(t *testing.T) {
	const nri = "github.com/containerd/nri/pkg/api"
	graph := importGraph{packages: map[string]listed{
		module + "/pkg/a":       {Imports: []string{module + "/pkg/b", "fmt"}},
		module + "/pkg/b":       {Imports: []string{nri}},
		module + "/hooks/h":     {Imports: []string{module + "/pkg/a", "os"}},
		nri:                     {Imports: []string{"fmt"}},
		"fmt":                   {Standard: true, Imports: []string{"os"}},
		"os":                    {Standard: true},
		"github.com/other/pkga": {},
	}}
	for name, c := range map[string]struct {
		wall wall
		want []string
	}{
		"through another package": {
			wall{from: []string{"pkg/a"}, to: []string{"github.com/containerd/nri/..."}},
			[]string{"pkg/a -> pkg/b -> " + nri},
		},
		"only in import statements": {
			wall{from: []string{"pkg/..."}, to: []string{"github.com/containerd/..."}, direct: true},
			[]string{"pkg/b -> " + nri},
		},
		"excepted": {
			wall{from: []string{"..."}, except: []string{"pkg/b", "pkg/a", "hooks/..."}, to: []string{nri}},
			nil,
		},
		"own packages": {
			wall{from: []string{"..."}, to: []string{"./pkg/..."}, direct: true},
			[]string{"hooks/h -> pkg/a", "pkg/a -> pkg/b"},
		},
		"standard library, direct": {
			wall{from: []string{"..."}, to: []string{"os"}, direct: true},
			[]string{"hooks/h -> os"},
		},
		"not standard": {
			wall{from: []string{"pkg/..."}, to: []string{"nonstandard"}},
			[]string{"pkg/a -> pkg/b", "pkg/b -> " + nri},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := graph.breaches(c.wall); !slices.Equal(got, c.want) {
				t.Errorf("breaches:\n%q\nwant:\n%q", got, c.want)
			}
		})
	}
}

// listed is the part of `go list -json` used here.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Error      *struct{ Err string }
}

type importGraph struct{ packages map[string]listed }

// loadGraph asks the go command for the root module's packages and all that is
// linked with them; the imports of tests do not count.
func loadGraph(t *testing.T) importGraph {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Error", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatalf("list packages: %v", err)
	}
	graph := importGraph{packages: map[string]listed{}}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return graph
		}
		if err != nil {
			t.Fatalf("decode the package list: %v", err)
		}
		if p.Error != nil {
			t.Fatalf("list package %s: %s", p.ImportPath, p.Error.Err)
		}
		graph.packages[p.ImportPath] = p
	}
}

// covered returns the packages that a wall starts from, in order.
func (g importGraph) covered(w wall) []string {
	var found []string
	for path := range g.packages {
		rel, ours := strings.CutPrefix(path, module+"/")
		if ours && matchesAny(w.from, rel) && !matchesAny(w.except, rel) {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return found
}

// breaches returns the shortest chain to each forbidden package, in order.
func (g importGraph) breaches(w wall) []string {
	var chains []string
	for _, start := range g.covered(w) {
		seen := map[string]bool{start: true}
		for queue := [][]string{{start}}; len(queue) > 0; queue = queue[1:] {
			chain := queue[0]
			last := chain[len(chain)-1]
			for _, next := range g.packages[last].Imports {
				if seen[next] {
					continue
				}
				seen[next] = true
				longer := append(slices.Clone(chain), next)
				switch {
				case g.forbidden(w, next):
					chains = append(chains, show(longer))
				case !w.direct:
					queue = append(queue, longer)
				}
			}
		}
	}
	return chains
}

func (g importGraph) forbidden(w wall, path string) bool {
	for _, to := range w.to {
		if to == "nonstandard" {
			if !g.packages[path].Standard {
				return true
			}
			continue
		}
		if own, ok := strings.CutPrefix(to, "./"); ok {
			to = module + "/" + own
		}
		if matches(to, path) {
			return true
		}
	}
	return false
}

func show(chain []string) string {
	short := make([]string, len(chain))
	for i, path := range chain {
		short[i] = strings.TrimPrefix(path, module+"/")
	}
	return strings.Join(short, " -> ")
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

// matches knows the go command's "..." at the end of a pattern.
func matches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(path+"/", prefix)
	}
	return path == pattern
}
