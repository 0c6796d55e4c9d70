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
	"sync"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// Materials are the files that a cluster is made of: all of what has to be fetched or compiled.
type Materials struct {
	// Cache is this package's folder in the cache; Docker's data is below it.
	Cache string
	// Debian is a tar archive of a root folder, its name changes with its contents.
	Debian string
	// NodeFiles is the folder that kind's own node image takes its files from.
	NodeFiles string
	// Programs are those of every test node: containerd, gVisor, the CNI plugins, and what this checkout contributes.
	Programs setup.Programs
	// Etcd, Kind, Kubernetes and Helm are what only a cluster needs.
	Etcd, Kind, Kubernetes, Helm parts.Part
	// RuncWithin is the runtime in front of runc.
	RuncWithin string
	// Checkout is the repository's root.
	Checkout string
}

// materialsEnv hands Materials on to the inside of the enclosure.
const materialsEnv = "NEIGHPIN_KIND_MATERIALS"

// workload is the program that runs in the pods.
func (m Materials) workload() string { return filepath.Join(m.Programs.Own, "workload") }

// Gather installs, downloads and builds what the cache and the machine lack, and says on progress what it does. It
// returns the environment with which Gathered finds the result again.
func Gather(ctx context.Context, progress io.Writer) ([]string, error) {
	if err := setup.Docker(ctx, progress); err != nil {
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
	m := Materials{Cache: filepath.Join(cache, "kind"), Checkout: filepath.Dir(root)}
	if err := os.MkdirAll(m.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	// Debian comes over the network while the compiler has the processors.
	ctx, cancel := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	var fetched error
	fetching.Go(func() { m.Debian, fetched = debian(ctx, m.Cache, progress) })
	err = m.build(ctx, builder, root, progress)
	if err != nil {
		cancel()
	}
	fetching.Wait()
	cancel()
	if err != nil {
		return nil, err
	}
	if fetched != nil {
		return nil, fetched
	}
	encoded, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the materials: %w", err)
	}
	return []string{materialsEnv + "=" + string(encoded)}, nil
}

// build builds all programs, or finds them in the cache.
func (m *Materials) build(ctx context.Context, builder *parts.Builder, root string, progress io.Writer) (err error) {
	if m.Programs, err = setup.All(ctx, progress, setup.Newest); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		into *parts.Part
	}{{"etcd", &m.Etcd}, {"kind", &m.Kind}, {"kubernetes", &m.Kubernetes}, {"helm", &m.Helm}} {
		if *part.into, err = builder.Build(ctx, part.name); err != nil {
			return err
		}
	}
	kindModule, err := builder.ModuleDir(ctx, m.Kind.Name, "sigs.k8s.io/kind")
	if err != nil {
		return err
	}
	m.NodeFiles = filepath.Join(kindModule, "images", "base", "files")
	m.RuncWithin = filepath.Join(m.Programs.Own, "runc-within")
	return builder.Program(ctx, root, "./kind/runc-within", m.RuncWithin)
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
