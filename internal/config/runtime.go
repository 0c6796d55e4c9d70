// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/selection"
)

const (
	// RuntimeFile is the configuration of the wrapper and the hook, RuntimeEnv
	// the variable that names another one. There are no flags: the runtime's are
	// not ours, and engines give a runtime no arguments of the operator's.
	RuntimeFile = "/etc/neighpin/runtime.yaml"
	RuntimeEnv  = "NEIGHPIN_RUNTIME_CONFIG"
)

// Runtime is the file of the wrapper and the hook, documented in
// docs/oci.md.
type Runtime struct {
	Runtimes          map[string]string `json:"runtimes"`
	Enforce           bool              `json:"enforce"`
	Annotate          bool              `json:"annotate"`
	ExcludeNamespaces []string          `json:"excludeNamespaces"`
	MaxNeighbors      int               `json:"maxNeighbors"`
	StateDir          string            `json:"stateDir"`
}

func defaultRuntime() Runtime {
	return Runtime{Annotate: true, MaxNeighbors: neighbor.DefaultLimit, StateDir: DefaultStateDir}
}

// LoadRuntime reads the configuration; a file at the usual place may be
// missing. Beside an error it returns what could be understood.
func LoadRuntime(lookupEnv func(string) (string, bool)) (Runtime, error) {
	config := defaultRuntime()
	path, named := lookupEnv(RuntimeEnv)
	if !named {
		path = RuntimeFile
	}
	data, err := os.ReadFile(path)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return config, fmt.Errorf("read configuration: %w", err)
	}
	if err = yaml.UnmarshalStrict(data, &config); err != nil {
		config = defaultRuntime()
		_ = yaml.Unmarshal(data, &config) // as far as it goes
	} else {
		err = config.Validate()
	}
	if err != nil {
		return config, fmt.Errorf("parse configuration %s: %w", path, err)
	}
	return config, nil
}

// Validate reports everything that cannot be meant.
func (c Runtime) Validate() error {
	var errs []error
	if c.MaxNeighbors < 1 || c.MaxNeighbors > annotation.MaxNeighbors {
		errs = append(errs, fmt.Errorf("maxNeighbors: %d, want 1 to %d", c.MaxNeighbors, annotation.MaxNeighbors))
	}
	if !ownFolder(c.StateDir) {
		errs = append(errs, fmt.Errorf("stateDir: %q, want the absolute path of a folder of its own, such as %s", c.StateDir, DefaultStateDir))
	}
	if err := selection.ValidateGlobs(c.ExcludeNamespaces); err != nil {
		errs = append(errs, fmt.Errorf("excludeNamespaces: %w", err))
	}
	for name, path := range c.Runtimes {
		if path == "" || !filepath.IsAbs(path) && filepath.Base(path) != path {
			errs = append(errs, fmt.Errorf("runtimes: %s: %q, want an absolute path or a name", name, path))
		}
	}
	return errors.Join(errs...)
}
