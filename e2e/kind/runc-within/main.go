// SPDX-License-Identifier: Apache-2.0

// Command runc-within stands in front of runc and asks it for no more than this machine can give.
//
// A kind node is a privileged container: every capability, and an OOM score of its own. Where the machine itself
// lacks a capability (CI systems withhold CAP_SYS_RESOURCE) runc cannot grant it and refuses the container. This
// command removes from the container's configuration what is outside its own bounding set, and OOM scores below
// its own, and then becomes runc. Where nothing is withheld it changes nothing. It is part of the test bed only.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// exitRefused is what runc itself exits with when it could not do what it was asked.
const exitRefused = 1

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "runc-within:", err)
		os.Exit(exitRefused)
	}
}

// run adjusts the file that the command line names, if it names one, and replaces the process by runc.
func run(args []string) error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("find runc: %w", err)
	}
	mine, err := ownLimits()
	if err != nil {
		return err
	}
	switch path, whole := configuration(args[1:]); {
	case path == "":
	case whole:
		err = rewrite(path, mine.limitSpec)
	default:
		err = rewrite(path, mine.limitProcess)
	}
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args[1:]...), os.Environ())
}

// configuration names the file that runc will read: a whole container's configuration (create, run) or one
// process (exec). It returns "" for every other command.
func configuration(args []string) (path string, whole bool) {
	at := slices.IndexFunc(args, func(arg string) bool { return arg == "create" || arg == "run" || arg == "exec" })
	if at < 0 {
		return "", false
	}
	command, args := args[at], args[at+1:]
	if command == "exec" {
		return option(args, "process", "p"), false
	}
	bundle := option(args, "bundle", "b")
	if bundle == "" {
		bundle = "."
	}
	return filepath.Join(bundle, "config.json"), true
}

// option finds the value of a flag, written as `--name value` or `--name=value` and with one dash or two.
func option(args []string, names ...string) string {
	for i, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !slices.Contains(names, name) {
			continue
		}
		if inline {
			return value
		}
		if i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// rewrite applies change to the JSON object in the file and keeps everything else in it, numbers included.
func rewrite(path string, change func(map[string]any)) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the container's configuration: %w", err)
	}
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	change(object)
	raw, err = json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write the container's configuration: %w", err)
	}
	return nil
}

// limits is what this process may hand on.
type limits struct {
	bounding uint64 // one bit per capability, as in CapBnd of proc(5)
	oomScore int64  // the lowest oom_score_adj that may be asked for without CAP_SYS_RESOURCE
}

// capSysResource is the bit of CAP_SYS_RESOURCE, with which any OOM score may be asked for.
const capSysResource = 24

// minOOMScore is the lowest value that the kernel knows.
const minOOMScore = -1000

// ownLimits reads them from proc(5).
func ownLimits() (limits, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return limits{}, fmt.Errorf("read own capabilities: %w", err)
	}
	var mine limits
	_, rest, found := strings.Cut(string(status), "CapBnd:")
	if !found {
		return limits{}, fmt.Errorf("read own capabilities: no CapBnd in /proc/self/status")
	}
	line, _, _ := strings.Cut(rest, "\n")
	if mine.bounding, err = strconv.ParseUint(strings.TrimSpace(line), 16, 64); err != nil {
		return limits{}, fmt.Errorf("parse own capabilities: %w", err)
	}
	if mine.bounding&(1<<capSysResource) != 0 {
		mine.oomScore = minOOMScore
		return mine, nil
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return limits{}, fmt.Errorf("read own OOM score: %w", err)
	}
	if mine.oomScore, err = strconv.ParseInt(strings.TrimSpace(string(score)), 10, 64); err != nil {
		return limits{}, fmt.Errorf("parse own OOM score: %w", err)
	}
	return mine, nil
}

// limitSpec limits the process of a container's configuration.
func (l limits) limitSpec(spec map[string]any) {
	if process, ok := spec["process"].(map[string]any); ok {
		l.limitProcess(process)
	}
}

// limitProcess removes what cannot be granted from an OCI process object.
func (l limits) limitProcess(process map[string]any) {
	if sets, ok := process["capabilities"].(map[string]any); ok {
		for name, set := range sets {
			if list, ok := set.([]any); ok {
				sets[name] = slices.DeleteFunc(list, func(capability any) bool { return !l.grants(capability) })
			}
		}
	}
	number, ok := process["oomScoreAdj"].(json.Number)
	if !ok {
		return
	}
	if score, err := number.Int64(); err == nil && score < l.oomScore {
		process["oomScoreAdj"] = l.oomScore
	}
}

// grants says whether a capability, by its OCI name, is in our own bounding set. Unknown names are left to runc.
func (l limits) grants(capability any) bool {
	name, _ := capability.(string)
	bit := slices.Index(capabilities[:], name)
	return bit < 0 || l.bounding&(1<<bit) != 0
}
