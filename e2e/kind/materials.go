// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

// Materials are the files that a cluster is made of: all of what has to be fetched or compiled.
type Materials struct {
	// Cache is this package's folder in the cache; Docker's data is below it.
	Cache string
	// Debian is a tar archive of a root folder, its name changes with its contents.
	Debian string
	// NodeFiles is the folder that kind's own node image takes its files from.
	NodeFiles string
	// Parts are the built parts by name: containerd, gvisor, cni, kubernetes, etcd and kind.
	Parts map[string]parts.Part
	// Neighpin, Workload and RuncWithin are programs of this repository, statically linked.
	Neighpin, Workload, RuncWithin string
	// Checkout is the repository's root.
	Checkout string
}

// materialsEnv hands Materials on to the inside of the enclosure.
const materialsEnv = "NEIGHPIN_KIND_MATERIALS"

// partNames are the parts that the node image and the tests are made of.
var partNames = [...]string{"containerd", "gvisor", "cni", "etcd", "kind", "kubernetes"}

// Gather installs, downloads and builds what the cache and the machine lack, and says on progress what it does. It
// returns the environment with which Gathered finds the result again.
func Gather(ctx context.Context, progress io.Writer) ([]string, error) {
	if err := installPackages(ctx, progress); err != nil {
		return nil, err
	}
	builder, err := parts.NewBuilder(progress)
	if err != nil {
		return nil, err
	}
	cache, err := parts.Cache()
	if err != nil {
		return nil, err
	}
	root, err := parts.Root()
	if err != nil {
		return nil, err
	}
	m := Materials{Cache: filepath.Join(cache, "kind"), Parts: map[string]parts.Part{}, Checkout: filepath.Dir(root)}
	programs := filepath.Join(m.Cache, "programs")
	if err := os.MkdirAll(programs, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	for _, name := range partNames {
		if m.Parts[name], err = builder.Build(ctx, name); err != nil {
			return nil, err
		}
	}
	kindModule, err := builder.ModuleDir(ctx, "kind", "sigs.k8s.io/kind")
	if err != nil {
		return nil, err
	}
	m.NodeFiles = filepath.Join(kindModule, "images", "base", "files")
	for _, program := range []struct {
		path *string
		name string
		dir  string
		pkg  string
	}{
		{&m.Neighpin, "neighpin", m.Checkout, "./plugin"},
		{&m.Workload, "workload", root, "./cmd/workload"},
		{&m.RuncWithin, "runc-within", root, "./kind/runc-within"},
	} {
		*program.path = filepath.Join(programs, program.name)
		if err := builder.Program(ctx, program.dir, program.pkg, *program.path); err != nil {
			return nil, err
		}
	}
	if m.Debian, err = debian(ctx, m.Cache, progress); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the materials: %w", err)
	}
	return []string{materialsEnv + "=" + string(encoded)}, nil
}

// Gathered is what Gather found, read from the environment that it returned.
func Gathered() (Materials, error) {
	var m Materials
	if err := json.Unmarshal([]byte(os.Getenv(materialsEnv)), &m); err != nil {
		return Materials{}, fmt.Errorf("read the materials from %s: %w", materialsEnv, err)
	}
	return m, nil
}

// digest condenses strings into a short name.
func digest(of ...string) string {
	sum := sha256.New()
	for _, part := range of {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:6])
}
