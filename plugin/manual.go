// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neighpin/neighpin/internal/config"
)

// manual is what the help of a command, and its page in docs/reference.md, have besides its description and flags.
type manual struct {
	// found is what exit code 3 means; the command has none without it.
	found string
	// exit replaces the usual exit codes.
	exit string
	// files are paths with what they are, examples command lines with what they do, see names of commands and pages.
	files, examples []entry
	see             []string
}

// entry is a name and what is said of it.
type entry struct{ name, text string }

// The keys of a command's annotations.
const (
	manualExit  = "exit"
	manualFiles = "files"
	manualSee   = "see"
)

// documented gives each command what its manual says.
func documented(root *cobra.Command) *cobra.Command {
	all := daemonManuals()
	maps.Copy(all, namespaceManuals())
	maps.Copy(all, ociManuals())
	for _, cmd := range root.Commands() {
		m := all[cmd.Name()]
		cmd.Example = lines(m.examples)
		cmd.Annotations = map[string]string{manualExit: m.exitCodes(), manualFiles: lines(m.files), manualSee: m.seeAlso()}
	}
	// cobra's own words, with the sections that it does not know at the end.
	text := root.UsageTemplate()
	for _, section := range []entry{{manualExit, "Exit status"}, {manualFiles, "Files"}, {manualSee, "See also"}} {
		text += fmt.Sprintf("{{with index .Annotations %q}}\n%s:\n{{.}}\n{{end}}", section.name, section.text)
	}
	root.SetUsageTemplate(text)
	return root
}

// lines are entries in two columns.
func lines(entries []entry) string {
	wide := 0
	for _, e := range entries {
		wide = max(wide, len(e.name))
	}
	var all []string
	for _, e := range entries {
		all = append(all, fmt.Sprintf("  %-*s  %s", wide, e.name, e.text))
	}
	return strings.Join(all, "\n")
}

// seeAlso are the commands and pages that belong to it.
func (m manual) seeAlso() string {
	if len(m.see) == 0 {
		return ""
	}
	return "  " + strings.Join(m.see, ", ")
}

// exitCodes are those of a command.
func (m manual) exitCodes() string {
	if m.exit != "" {
		return "  " + m.exit
	}
	codes := []entry{
		{fmt.Sprint(exitOK), "done, and as it should be"},
		{fmt.Sprint(exitError), "an error; a sentence on standard error says what was tried, on what"},
		{fmt.Sprint(exitUsage), "the command line or the configuration cannot be understood"},
	}
	if m.found != "" {
		codes = append(codes, entry{fmt.Sprint(exitNotPinned), m.found})
	}
	return lines(codes)
}

// The files that several commands use.
func recordFile() entry {
	return entry{config.DefaultStateDir + "/sandboxes/ID.json", "the record of a sandbox"}
}

func socketFile() entry {
	return entry{config.DefaultStateDir + "/neighpin.sock", "where the daemon answers"}
}

// daemonManuals are those that run the daemon, ask it, or go by its configuration, by name.
func daemonManuals() map[string]manual {
	records := recordFile()
	socket := socketFile()
	daemons := entry{"/etc/neighpin/neighpin.yaml", "the configuration in the DaemonSet's container; elsewhere what --config names"}
	return map[string]manual{
		"plugin": {
			files:    []entry{daemons, records, socket},
			examples: []entry{{"neighpin plugin", "with the defaults"}, {"neighpin plugin --handlers 'runsc*' --metrics-address :9717", "other handlers, with metrics"}},
			see:      []string{"neighpin config", "neighpin check", "docs/configuration.md", "docs/operations.md"},
		},
		"status": {
			found:    "a sandbox is not pinned as it should be",
			files:    []entry{records, socket},
			examples: []entry{{"neighpin status", "connections and sandboxes"}, {"neighpin status --ready", "a probe for readiness"}, {"neighpin status -o json", "for scripts"}},
			see:      []string{"neighpin list", "neighpin show", "docs/cli.md"},
		},
		"list": {
			found:    "with --problems: a sandbox is listed",
			files:    []entry{records, socket},
			examples: []entry{{"neighpin list --problems", "what is not as it should be; best is an empty list"}, {"neighpin list -n shop -o wide", "one Kubernetes namespace, a line for each gateway"}},
			see:      []string{"neighpin show", "neighpin status"},
		},
		"show": {
			found:    "the sandbox is not as it should be",
			files:    []entry{records, socket},
			examples: []entry{{"neighpin show shop/web", "a pod by namespace and name"}},
			see:      []string{"neighpin list", "docs/troubleshooting.md"},
		},
		"check": {
			found:    "something is failed",
			files:    []entry{daemons, socket},
			examples: []entry{{"neighpin check", "before anything is installed, or beside the daemon"}},
			see:      []string{"neighpin config", "docs/install.md", "docs/compatibility.md"},
		},
		"support-bundle": {
			files:    []entry{daemons, records, socket},
			examples: []entry{{"neighpin support-bundle --file neighpin.tar.gz", "into a file that is not there yet"}},
			see:      []string{"neighpin check", "docs/troubleshooting.md"},
		},
		"config": {
			files:    []entry{daemons},
			examples: []entry{{"neighpin config --handlers 'runsc*,kata*'", "what that flag makes of the defaults"}},
			see:      []string{"neighpin plugin", "docs/configuration.md"},
		},
		"version": {examples: []entry{{"neighpin version -o json", "for scripts"}}},
	}
}

// namespaceManuals are those that do by hand what the daemon does, and look at the host, by name.
func namespaceManuals() map[string]manual {
	records := recordFile()
	cni := "/var/run/netns/cni-1"
	return map[string]manual{
		"inspect": {
			files:    []entry{records},
			examples: []entry{{"neighpin inspect --netns " + cni, "what would be pinned, and why not"}},
			see:      []string{"neighpin pin", "neighpin verify", "docs/datapaths.md"},
		},
		"pin": {
			files:    []entry{records},
			examples: []entry{{"neighpin pin --netns " + cni, "as the daemon would"}},
			see:      []string{"neighpin unpin", "neighpin verify"},
		},
		"unpin": {
			files:    []entry{records},
			examples: []entry{{"neighpin unpin --netns " + cni, "one namespace"}, {"neighpin unpin --all", "after the daemon was removed"}},
			see:      []string{"neighpin pin", "docs/operations.md"},
		},
		"verify": {
			found:    "there is a difference",
			files:    []entry{records},
			examples: []entry{{"neighpin verify --netns " + cni, "what is there against what should be"}},
			see:      []string{"neighpin inspect", "docs/cli.md"},
		},
		"host-state": {
			found:    "something was found",
			files:    []entry{records},
			examples: []entry{{"neighpin host-state", "for the addresses of all recorded sandboxes"}, {"neighpin host-state --ip 10.88.0.7 --clean", "for one address, and remove it"}},
			see:      []string{"docs/host-state.md"},
		},
	}
}

// ociManuals are those that an engine or a runtime calls, by name.
func ociManuals() map[string]manual {
	records := recordFile()
	runtimes := entry{config.RuntimeFile, "the configuration; " + config.RuntimeEnv + " names another"}
	return map[string]manual{
		"runtime": {
			exit:     "that of the runtime that it becomes; 1 where there is none or the container is refused",
			files:    []entry{runtimes, records},
			examples: []entry{{"ln -s neighpin /usr/local/bin/neighpin-runsc", "the name under which an engine calls it"}},
			see:      []string{"neighpin hook", "docs/oci.md", "docs/tutorial-runtime-author.md"},
		},
		"hook": {
			exit:  "0; 2 where it is called by hand, 1 where it refuses the container",
			files: []entry{runtimes, records},
			see:   []string{"neighpin runtime", "docs/oci.md"},
		},
	}
}
