// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"slices"
	"strings"
	"testing"
)

// The command lines of real callers, in the order in which they put them
// together: go-runc's runc.go, gVisor's pkg/shim/v1/runsccmd/runsc.go, conmon's
// src/runtime_args.c, podman's libpod/oci_conmon_common.go, CRI-O's
// internal/oci/runtime_oci.go.
func TestArgumentsOfRealCallers(t *testing.T) {
	for name, tc := range map[string]struct {
		line string
		want call
	}{
		"containerd's runc shim": {
			"--root /run/containerd/runc/k8s.io --log /run/b/log.json --log-format json --systemd-cgroup create --bundle /run/b --pid-file /run/b/init.pid --console-socket /tmp/pty/pty.sock --no-pivot --no-new-keyring --preserve-fds 2 abc",
			call{command: cmdCreate, id: "abc", bundle: "/run/b", root: "/run/containerd/runc/k8s.io", log: "/run/b/log.json", logFormat: "json"},
		},
		"gVisor's shim": {
			"--root=/run/containerd/runsc/k8s.io --log=/run/b/log.json --log-format=json --panic-log=/var/log/p --platform=systrap --ignore-cgroups=true --debug create --bundle /run/b --pid-file /run/b/init.pid --user-log /l/gvisor.log abc",
			call{command: cmdCreate, id: "abc", bundle: "/run/b", root: "/run/containerd/runsc/k8s.io", log: "/run/b/log.json", logFormat: "json"},
		},
		"gVisor's shim restores": {
			"--root=/r --log=/l --log-format=json restore --image-path=/img --detach --direct --background abc",
			call{command: cmdRestore, id: "abc", root: "/r", log: "/l", logFormat: "json"},
		},
		"containerd's runc shim restores": {
			"--root /r --log /l --log-format json restore --image-path /img --work-path /w --tcp-established --manage-cgroups-mode soft --pid-file /p --detach --bundle /run/b abc",
			call{command: cmdRestore, id: "abc", bundle: "/run/b", root: "/r", log: "/l", logFormat: "json"},
		},
		"conmon for podman": {
			"--systemd-cgroup --log-format=json --log /ud/oci-log create --bundle /ud --pid-file /ud/pidfile --console-socket /s/attach abc",
			call{command: cmdCreate, id: "abc", bundle: "/ud", log: "/ud/oci-log", logFormat: "json"},
		},
		"conmon for CRI-O": {
			"--root=/run/runc create --bundle /ud --pid-file /ud/pidfile abc",
			call{command: cmdCreate, id: "abc", bundle: "/ud", root: "/run/runc"},
		},
		"delete":        {"--root /r --log /l --log-format json delete --force abc", call{command: cmdDelete, id: "abc", root: "/r", log: "/l", logFormat: "json"}},
		"podman's kill": {"kill --all abc 9", call{command: "kill"}},
		"podman's state": {
			"state abc", call{command: "state"},
		},
		"exec with words of its own": {"--root /r exec --process /p abc", call{command: "exec", root: "/r"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseArguments(strings.Fields(tc.line)); got != tc.want {
				t.Errorf("%s\n got %+v\nwant %+v", tc.line, got, tc.want)
			}
		})
	}
}

func TestARuntimesArgumentsAreReadInEveryForm(t *testing.T) {
	bundled := call{command: cmdRun, id: "c", bundle: "/b"}
	for line, want := range map[string]call{
		"run --bundle /b c":             bundled,
		"run --bundle=/b c":             bundled,
		"run -bundle /b c":              bundled,
		"run -bundle=/b c":              bundled,
		"run -b /b c":                   bundled,
		"run -b=/b c":                   bundled,
		"run --bundle /x --bundle /b c": bundled,
		"run c --bundle /b":             bundled, // crun's parser takes flags behind, too
		"run --bundle /b -- c":          bundled,
		"run --bundle /b -- -b=/x":      {command: cmdRun, id: "-b=/x", bundle: "/b"},
		"run c --pid-file /p -b /b":     bundled,
		"run -d --bundle /b --keep c":   bundled,
		"run --bundle create c":         {command: cmdRun, id: "c", bundle: "create"},
		"run --bundle= c":               {command: cmdRun, id: "c"},
		"run --bundle":                  {command: cmdRun},
		"run":                           {command: cmdRun},
		"":                              {},
		"--":                            {},
		"-":                             {command: "-"},
		"--log":                         {},
		"--log /l":                      {log: "/l"},
		"--log create create c":         {command: cmdCreate, id: "c", log: "create"},
		"--root=create list":            {command: "list", root: "create"},
		"--log /a --log=/b create c":    {command: cmdCreate, id: "c", log: "/b"},
		// A flag nobody told of may have a value or not.
		"--platform kvm create -b /b c": {command: cmdCreate, id: "c", bundle: "/b"},
		"--strace create -b /b c":       {command: cmdCreate, id: "c", bundle: "/b"},
		"--debug frobnicate create c":   {command: "frobnicate"},
		"--platform kvm frob create c":  {command: "frob"},
		"--strace --log /l frob run c":  {command: "frob", log: "/l"},
		"--platform=kvm frob create c":  {command: "frob"},
		"frobnicate create c":           {command: "frobnicate"},
		// gVisor's switches take "=true".
		"--debug=true create c": {command: cmdCreate, id: "c"},
		"--version":             {},
		"--help create":         {command: cmdCreate},
	} {
		if got := parseArguments(strings.Fields(line)); got != want {
			t.Errorf("%q\n got %+v\nwant %+v", line, got, want)
		}
	}
}

// Whatever the words are, nothing is made up, and the command is one of them.
func FuzzArguments(f *testing.F) {
	for _, line := range []string{
		"--root /r --log /l --log-format json create --bundle /b --pid-file /p c", "--root=/r create -b=/b c", "run -- c", "--log", "-b", "delete --force x",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		before := slices.Clone(args)
		c := parseArguments(args)
		if !slices.Equal(args, before) {
			t.Fatal("the words were changed")
		}
		for _, word := range []string{c.command, c.id, c.bundle, c.root, c.log, c.logFormat} {
			if word != "" && !slices.ContainsFunc(args, func(arg string) bool { return arg == word || strings.HasSuffix(arg, "="+word) }) {
				t.Fatalf("%q stands nowhere in %q", word, args)
			}
		}
		if c.command == "" && (c.id != "" || c.bundle != "") {
			t.Fatalf("without a command: %+v", c)
		}
	})
}
