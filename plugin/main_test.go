// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

// NRI's code waits here as long as it takes for a plugin, instead of two seconds: a busy machine may take longer.
func TestMain(m *testing.M) {
	adaptation.SetPluginRegistrationTimeout(time.Minute)
	adaptation.SetPluginRequestTimeout(time.Minute)
	nstest.Main(m)
}

// answering is the state directory of what answers as a daemon without sandboxes does.
func answering(t *testing.T, details map[string]http.Handler) string {
	t.Helper()
	state, err := os.MkdirTemp("", "np") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	log, _ := logtest.NewNullLogger()
	empty := func() status.Status { return status.Status{Sandboxes: []record.Record{}} }
	server, err := status.Serve(state, status.Answers{Status: empty, Alive: fine, Details: details}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return state
}

func fine() error { return nil }

// outcome is what a command line did.
type outcome struct {
	code           int
	stdout, stderr string
}

// neighpin runs a command line in an environment.
func neighpin(environ map[string]string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	args = append([]string{}, args...) // nil would be the test's own command line to cobra
	code := execute(args, &stdout, &stderr, func(name string) (string, bool) {
		value, ok := environ[name]
		return value, ok
	})
	return outcome{code, stdout.String(), stderr.String()}
}

func TestUsageErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) []string {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"config", "--config", file}
	}
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		says string
	}{
		"no command":           {nil, nil, "no command"},
		"unknown command":      {[]string{"pinn"}, nil, "unknown command"},
		"unknown flag":         {[]string{"plugin", "--nri"}, nil, "unknown flag: --nri"},
		"argument too many":    {[]string{"status", "all"}, nil, "all"},
		"no namespace":         {[]string{"inspect"}, nil, "--netns"},
		"unknown shell":        {[]string{"completion", "tcsh"}, nil, `"tcsh": want bash, fish, powershell or zsh`},
		"no shell":             {[]string{"completion"}, nil, "no shell given"},
		"unknown output":       {[]string{"version", "-o", "xml"}, nil, "xml"},
		"flag not a number":    {[]string{"config", "--max-neighbors", "many"}, nil, "max-neighbors"},
		"broken glob":          {[]string{"config", "--handlers", "["}, nil, `"["`},
		"contradiction":        {[]string{"config", "--handlers", "", "--pod-annotations", "ignore"}, nil, "no pod could ever be pinned"},
		"relative path":        {[]string{"config", "--state-dir", "run"}, nil, "stateDir (--state-dir)"},
		"half an interval":     {[]string{"config", "--compare-interval", "1ms"}, nil, "compareInterval"},
		"learned from nobody":  {[]string{"config", "--learned", "gossip"}, nil, "gossip"},
		"unknown policy":       {[]string{"config", "--pod-annotations", "maybe"}, nil, "maybe"},
		"index of one digit":   {[]string{"config", "--plugin-index", "1"}, nil, "two digits"},
		"environment":          {[]string{"config"}, map[string]string{"NEIGHPIN_MAX_NEIGHBORS": "0"}, "maxNeighbors"},
		"environment no digit": {[]string{"config"}, map[string]string{"NEIGHPIN_MAX_NEIGHBORS": "x"}, "NEIGHPIN_MAX_NEIGHBORS"},
		"profiles of nowhere":  {[]string{"config", "--pprof"}, nil, "metricsAddress is empty"},
		"excluded by nothing":  {[]string{"config", "--exclude-namespaces", "a[b"}, nil, `"a[b"`},
		"unknown key":          {write("handler: [runsc]\n"), nil, "handler"},
	} {
		t.Run(name, func(t *testing.T) {
			got := neighpin(tc.env, tc.args...)
			if got.code != exitUsage || !strings.Contains(got.stderr, tc.says) || got.stdout != "" {
				t.Errorf("%+v, want exit %d and %q", got, exitUsage, tc.says)
			}
		})
	}
	for name, text := range map[string]string{
		"no YAML":       "handlers: [",
		"duplicate key": "stateDir: /a\nstateDir: /b\n",
		"wrong type":    "handlers: 7\n",
		"a list":        "- handlers\n",
		"no duration":   "learnedInterval: 5\n",
	} {
		t.Run("file: "+name, func(t *testing.T) {
			got := neighpin(nil, write(text)...)
			if got.code != exitUsage || !strings.Contains(got.stderr, file) {
				t.Errorf("%+v, want exit %d and the file's name", got, exitUsage)
			}
		})
	}
	if got := neighpin(nil, "plugin", "--config", filepath.Join(t.TempDir(), "none")); got.code != exitUsage || !strings.Contains(got.stderr, "none") {
		t.Errorf("missing file: %+v", got)
	}
}

func TestCompletionForEachShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := neighpin(nil, "completion", shell); got.code != exitOK || !strings.Contains(got.stdout, "neighpin") || got.stderr != "" {
			t.Errorf("%s: %d, %s", shell, got.code, got.stderr)
		}
	}
}

func TestConfigLayers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "handlers: [fromfile]\nannotate: [fromfile]\nstateDir: /from/file\nlogLevel: debug\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := map[string]string{"NEIGHPIN_HANDLERS": "fromenv,second", "NEIGHPIN_STATE_DIR": "/from/env"}
	got := neighpin(environ, "config", "--config", file, "--handlers", "fromflag")
	if got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{
		"handlers:\n- fromflag\n", "annotate:\n- fromfile\n", "stateDir: /from/env\n", "logLevel: debug\n", "pluginIndex: \"10\"\n",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("effective configuration lacks %q:\n%s", want, got.stdout)
		}
	}
	// What is printed is a configuration.
	if err := os.WriteFile(file, []byte(got.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := neighpin(nil, "config", "--config", file); again.stdout != got.stdout {
		t.Errorf("printed configuration reads back as\n%s", again.stdout)
	}
}

func TestDefaultsThatDependOnOtherKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	for name, tc := range map[string]struct {
		text string
		want string
	}{
		"nothing":              {"", "podAnnotations: allow\n"},
		"enforced":             {"enforce: true\n", "podAnnotations: optIn\n"},
		"enforced, but said":   {"enforce: true\npodAnnotations: allow\n", "podAnnotations: allow\n"},
		"off as YAML reads it": {"learned: off\n", "learned: \"off\"\n"},
		"asking":               {"learned: probe\nlearnedInterval: 1500ms\n", "learned: probe\nlearnedInterval: 1.5s\n"},
		"a slow comparison":    {"compareInterval: 1h\n", "compareInterval: 1h\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := neighpin(nil, "config", "--config", file); got.code != exitOK || !strings.Contains(got.stdout, tc.want) {
				t.Errorf("%+v, want %q", got, tc.want)
			}
		})
	}
}
