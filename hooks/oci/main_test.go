// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/record"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// newPod makes a namespace as ptp would; its other end is in a second one.
func newPod(t *testing.T) (ns, outside *nstest.NS) {
	t.Helper()
	ns, outside = nstest.New(t), nstest.New(t)
	ns.Veth("eth0", outside, "veth0")
	ns.IP("address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1",
		"address add fd00:88::2/64 dev eth0 nodad", "route add default via fd00:88::1")
	return ns, outside
}

// newSegment makes a namespace on a macvlan: the host knows no address for its
// gateway.
func newSegment(t *testing.T) *nstest.NS {
	t.Helper()
	ns := nstest.New(t)
	segment(t)(ns)
	return ns
}

// segment makes of a namespace what newSegment makes.
func segment(t *testing.T) func(*nstest.NS) {
	return func(ns *nstest.NS) {
		t.Helper()
		ns.Veth("lower", nstest.New(t), "far")
		ns.IP("link add eth0 link lower type macvlan mode bridge", "link set eth0 up",
			"address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1")
	}
}

func permanent(ns *nstest.NS) int { return strings.Count(ns.Output("neigh", "show"), "PERMANENT") }

// newBundle writes a config.json with the namespace at path, none if it is empty.
func newBundle(t *testing.T, path string, annotations map[string]string) string {
	t.Helper()
	namespaces := []map[string]string{{"type": "pid"}}
	if path != "" {
		namespaces = append(namespaces, map[string]string{"type": "network", "path": path})
	}
	data, err := json.MarshalIndent(map[string]any{
		"ociVersion": "1.1.0", "annotations": annotations, "linux": map[string]any{"namespaces": namespaces},
		"x-unknown": []any{1.50, "<&>", nil},
	}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return writeBundle(t, data)
}

func writeBundle(t *testing.T, config []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readConfig(t *testing.T, dir string) (string, map[string]string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s spec
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return string(data), s.Annotations
}

// bed is a wrapper whose real runtime is a file that is never run.
type bed struct {
	t       *testing.T
	options Options
	log     string
	env     []string
}

// outcome is what one run did.
type outcome struct {
	code   int
	path   string   // what was executed; empty for nothing
	argv   []string // with which words
	said   string   // on standard error before that
	stderr string   // and after it, or if nothing was executed
}

func newBed(t *testing.T) *bed {
	t.Helper()
	dir := t.TempDir()
	real := filepath.Join(dir, "runx")
	if err := os.WriteFile(real, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &bed{t: t, log: filepath.Join(dir, "log.json"), env: []string{"PATH=" + dir, "A=b"}, options: Options{
		Name: "neighpin-runx", Annotate: true, MaxNeighbors: 64, StateDir: filepath.Join(dir, "state"),
	}}
}

// wrap runs the wrapper. A Wrap that returns without having executed anything
// has its exit code; nothing else can be told apart from a runtime that ran.
func (b *bed) wrap(args ...string) outcome {
	b.t.Helper()
	var out outcome
	var stderr bytes.Buffer
	out.code = Wrap(Process{Args: args, Env: b.env, Stderr: &stderr, Exec: func(path string, argv, env []string) error {
		out.path, out.argv = path, argv
		if strings.Join(env, "\n") != strings.Join(b.env, "\n") {
			b.t.Errorf("environment %q, want %q", env, b.env)
		}
		out.said = stderr.String()
		stderr.Reset() // from here it is the runtime's
		return errors.New("this is a test")
	}}, b.options)
	out.stderr = stderr.String()
	return out
}

// begin runs the wrapper on a bundle, as go-runc does.
func (b *bed) begin(command, bundle, id string) outcome {
	b.t.Helper()
	return b.wrap("--root", "/nonexistent", "--log", b.log, "--log-format", "json", command, "--bundle", bundle, id)
}

// messages are what the log says, by level, but for the execve that a test
// refuses.
func (b *bed) messages() map[string]string {
	b.t.Helper()
	found := map[string]string{}
	data, err := os.ReadFile(b.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var message struct{ Level, Msg, Time string }
		if err := json.Unmarshal([]byte(line), &message); err != nil || message.Time == "" {
			b.t.Fatalf("the log has %q: %v", line, err)
		}
		if !strings.Contains(message.Msg, "this is a test") {
			found[message.Level] += message.Msg + "\n"
		}
	}
	return found
}

func (b *bed) record(id string) (record.Record, error) {
	return record.In(b.options.StateDir).Load(id)
}

func ran(o outcome) bool { return o.path != "" }
