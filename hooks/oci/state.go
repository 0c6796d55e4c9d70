// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxState bounds a hook's input, in bytes.
const maxState = 4 << 20

// state is what a runtime gives its hooks (OCI runtime-spec, runtime.md, State).
type state struct {
	Version string `json:"ociVersion"`
	ID      string `json:"id"`
	Status  string `json:"status"`
	PID     int    `json:"pid"`
	Bundle  string `json:"bundle"`
}

// errByHand says that nobody gave a state.
var errByHand = errors.New("no state on standard input: this command is called by an OCI runtime, as a hook of stage createRuntime")

// readState reads one state.
func readState(in io.Reader) (state, error) {
	if file, ok := in.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return state{}, errByHand
		}
	}
	data, err := io.ReadAll(io.LimitReader(in, maxState+1))
	switch {
	case err != nil:
		return state{}, fmt.Errorf("read state: %w", err)
	case len(data) > maxState:
		return state{}, fmt.Errorf("read state: more than %d bytes", maxState)
	case strings.TrimSpace(string(data)) == "":
		return state{}, errByHand
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("parse state: %w", err)
	}
	return s, s.check()
}

// check refuses what this program does not know. Within a major version states
// only grow (runtime-spec, README.md, Versioning).
func (s state) check() error {
	major, _, _ := strings.Cut(s.Version, ".")
	switch {
	case major != "1":
		return fmt.Errorf("parse state: version %.32q, want 1.x", s.Version)
	case s.ID == "":
		return errors.New("parse state: no id")
	case !filepath.IsAbs(s.Bundle):
		return fmt.Errorf("parse state: bundle %.128q is no absolute path", s.Bundle)
	}
	return nil
}

// namespace is the path of the container's network namespace as its init process
// shows it.
func (s state) namespace() (string, error) {
	if s.PID <= 0 {
		return "", fmt.Errorf("find network namespace of container %.64q: the state names no process", s.ID)
	}
	return filepath.Join("/proc", strconv.Itoa(s.PID), "ns/net"), nil
}

// runscRoot is where runsc keeps its state unless it is told (gVisor
// runsc/config/flags.go, defaultRootDir).
const runscRoot = "/var/run/runsc"

// readRestored finds the configuration of the container that is restored: in the
// bundle, if the command line names one, as runc's callers do. gVisor's shim
// names none: the container was created before, and runsc has it in a file of its
// own. Where that is not so either, runsc takes the working directory for the
// bundle, as runc does.
func readRestored(c call) (*spec, error) {
	if c.bundle == "" {
		found, err := readRunscState(c.root, c.id)
		if found != nil || err != nil {
			return found, err
		}
	}
	b, err := readBundle(c.bundle)
	if err != nil {
		return nil, err
	}
	return &b.spec, nil
}

// readRunscState reads the configuration of a container that runsc has created;
// nil if it has not. The file's name is ID_sandbox:SANDBOX.state (gVisor
// runsc/container/state_file.go, buildPath).
func readRunscState(root, id string) (*spec, error) {
	if root == "" {
		root = runscRoot
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for runsc's state: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), id+"_sandbox:") || filepath.Ext(entry.Name()) != ".state" {
			continue
		}
		path := filepath.Join(root, entry.Name())
		data, err := readBounded(path)
		if err != nil {
			return nil, fmt.Errorf("read runsc's state: %w", err)
		}
		var container struct {
			Spec *spec `json:"spec"`
		}
		if err := json.Unmarshal(data, &container); err != nil {
			return nil, fmt.Errorf("parse %s: %w", path, err)
		}
		if container.Spec == nil {
			return nil, fmt.Errorf("parse %s: it has no spec", path)
		}
		return container.Spec, nil
	}
	return nil, nil
}
