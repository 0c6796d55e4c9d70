// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"slices"
	"strings"
)

// The commands of an OCI runtime that the wrapper acts on.
const (
	cmdCreate  = "create"
	cmdRun     = "run"
	cmdRestore = "restore"
	cmdDelete  = "delete"
)

// call is a runtime's command line, as far as the wrapper has to understand it.
// The runtime is given the words as they came, whatever was understood.
type call struct {
	command string // empty when there is none
	id      string // the container's; empty when there is none
	bundle  string // empty: the working directory
	root    string // where the runtime keeps its state; empty: its default
	// log is the file that the runtime's messages are to go to, empty for
	// standard error; logFormat is how.
	log, logFormat string
}

// commands are words that no flag has as its value, so that the command is found
// behind a flag that is not known here: runc's (its main.go), gVisor's
// (runsc/cli/cli.go) and crun's (src/crun.c).
func commands() []string {
	return []string{
		cmdCreate, cmdRun, cmdRestore, cmdDelete, "start", "state", "kill", "exec", "list", "ps", "pause", "resume",
		"events", "spec", "update", "checkpoint", "features", "wait", "do", "mounts", "help", "version",
	}
}

// switches are flags before the command that take no value.
func switches() []string {
	return []string{"debug", "systemd-cgroup", "no-pivot", "version", "v", "help", "h"}
}

// valued are the flags of create, run, restore and delete, in runc, runsc and
// crun, that take the next word where they have no "=". A flag that is missing
// here costs nothing as long as the id is the last word, as it is with every
// caller.
func valued() []string {
	return []string{
		"bundle", "b", "config", "f", "console-socket", "pidfd-socket", "pid-file", "preserve-fds", "user-log", "pass-fd",
		"exec-fd", "fs-restore-image-path", "image-path", "work-path", "parent-path", "manage-cgroups-mode", "empty-ns",
		"lsm-profile", "lsm-mount-context",
	}
}

// parseArguments reads a command line as runc's (urfave/cli), gVisor's (package
// flag) and crun's (argp) parsers do: flags with one dash or two, with "=" or in
// two words, those of the runtime before the command and those of the command
// behind it. What cannot be understood is left out.
func parseArguments(args []string) call {
	var c call
	rest := c.parseGlobal(args)
	if !slices.Contains([]string{cmdCreate, cmdRun, cmdRestore, cmdDelete}, c.command) {
		return c
	}
	names := valued()
	onlyWords := false
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		name, value, isFlag := splitFlag(word)
		switch {
		case onlyWords || !isFlag:
			c.id = word
			continue
		case word == "--":
			onlyWords = true
			continue
		case value == nil && slices.Contains(names, name) && len(rest) > 0:
			value, rest = &rest[0], rest[1:]
		}
		if value != nil && (name == "bundle" || name == "b") {
			c.bundle = *value
		}
	}
	return c
}

// parseGlobal reads up to the command and returns what follows it.
func (c *call) parseGlobal(args []string) (rest []string) {
	known, bare := commands(), switches()
	doubtful := false // the word before is a flag that may want a value
	for i := 0; i < len(args); i++ {
		name, value, isFlag := splitFlag(args[i])
		if !isFlag {
			if doubtful && !slices.Contains(known, args[i]) {
				doubtful = false
				continue
			}
			c.command = args[i]
			return args[i+1:]
		}
		doubtful = false
		var target *string
		switch name {
		case "root":
			target = &c.root
		case "log":
			target = &c.log
		case "log-format":
			target = &c.logFormat
		default:
			doubtful = value == nil && !slices.Contains(bare, name)
			continue
		}
		if value == nil && i+1 < len(args) {
			i++
			value = &args[i]
		}
		if value != nil {
			*target = *value
		}
	}
	return nil
}

// splitFlag takes a word apart; value is nil when it has no "=".
func splitFlag(word string) (name string, value *string, isFlag bool) {
	if len(word) < 2 || word[0] != '-' {
		return "", nil, false
	}
	name = strings.TrimPrefix(word[1:], "-")
	if before, after, found := strings.Cut(name, "="); found {
		return before, &after, true
	}
	return name, nil, true
}
