// SPDX-License-Identifier: Apache-2.0

// Package setup readies the machine for a test node: the few programs that come from the distribution, and
// everything that is built. It is the only place that changes the machine, and says so when it does.
package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

const programsEnv = "NEIGHPIN_E2E_PROGRAMS"

// Programs says where the programs of a test node are.
type Programs struct {
	// Release is containerd's, one of [Releases].
	Release string
	// Containerd, GVisor and CNI are folders of parts.
	Containerd, GVisor, CNI string
	// Containerds are the folders of the releases that a node can change to; BuildReleases fills
	// it.
	Containerds map[string]string
	// Own is the folder with what is built from this checkout: neighpin, workload, worker, cni-datapath.
	Own string
}

// Neighpin is the product's binary.
func (p Programs) Neighpin() string { return filepath.Join(p.Own, "neighpin") }

// Consumer is the reader of the annotation in C, once [Consumer] has compiled it there.
func (p Programs) Consumer() string { return filepath.Join(p.Own, "consumer") }

// All installs and builds what a node needs with that release of containerd, and reports on progress.
func All(ctx context.Context, progress io.Writer, release string) (Programs, error) {
	if err := Distribution(ctx, progress); err != nil {
		return Programs{}, err
	}
	return Build(ctx, progress, release)
}

// Build builds the parts of a node with that release of containerd and what this checkout contributes.
func Build(ctx context.Context, progress io.Writer, release string) (Programs, error) {
	builder, err := parts.NewBuilder(progress)
	if err != nil {
		return Programs{}, err
	}
	programs := Programs{Release: release}
	if programs.Containerd, err = buildContainerd(ctx, builder, release); err != nil {
		return Programs{}, err
	}
	for _, part := range []struct {
		name string
		dir  *string
	}{{"gvisor", &programs.GVisor}, {"cni", &programs.CNI}} {
		built, err := builder.Build(ctx, part.name)
		if err != nil {
			return Programs{}, err
		}
		*part.dir = built.Dir
	}
	root, err := parts.Root()
	if err != nil {
		return Programs{}, err
	}
	cache, err := parts.Cache()
	if err != nil {
		return Programs{}, err
	}
	programs.Own = filepath.Join(cache, "own", strings.ReplaceAll(strings.Trim(root, "/"), "/", "-"))
	for _, own := range []struct{ dir, pkg, name string }{
		{root, "./cmd/workload", "workload"},
		{root, "./cmd/worker", "worker"},
		{root, "./cmd/cni-datapath", "cni-datapath"},
		{filepath.Dir(root), "./plugin", "neighpin"},
	} {
		if err := builder.Program(ctx, own.dir, own.pkg, filepath.Join(programs.Own, own.name)); err != nil {
			return Programs{}, err
		}
	}
	return programs, nil
}

// BuildUpgrades builds the releases of UpgradePath for programs of the newest release.
func (p *Programs) BuildUpgrades(ctx context.Context, progress io.Writer) error {
	return p.BuildReleases(ctx, progress, UpgradePath())
}

// BuildReleases builds releases that the node is to change to.
func (p *Programs) BuildReleases(ctx context.Context, progress io.Writer, releases []string) error {
	builder, err := parts.NewBuilder(progress)
	if err != nil {
		return err
	}
	p.Containerds = map[string]string{}
	for _, release := range releases {
		if p.Containerds[release], err = buildContainerd(ctx, builder, release); err != nil {
			return err
		}
	}
	return nil
}

func buildContainerd(ctx context.Context, builder *parts.Builder, release string) (string, error) {
	name, err := containerdPart(release)
	if err != nil {
		return "", err
	}
	built, err := builder.Build(ctx, name)
	return built.Dir, err
}

// Environment carries p to a process that is started with it.
func (p Programs) Environment() ([]string, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return []string{programsEnv + "=" + string(data)}, nil
}

// FromEnvironment is the other end of Environment.
func FromEnvironment() (Programs, error) {
	var p Programs
	if err := json.Unmarshal([]byte(os.Getenv(programsEnv)), &p); err != nil {
		return Programs{}, fmt.Errorf("parse %s: %w", programsEnv, err)
	}
	return p, nil
}
