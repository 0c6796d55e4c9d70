// SPDX-License-Identifier: Apache-2.0

// Package release makes the files of a release: for each architecture the program with its licenses and a list of what is linked
// into it, the image, the chart, install.yaml, how all of it was built, and checksums.
//
// With one release of Go the bytes depend on the sources and Options alone: whoever builds the commit can compare.
package release

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/manifests"
)

// Options are all that decides what a release is, besides the sources.
type Options struct {
	product.Options
	// Repository is where the image will be, without a tag: "ghcr.io/neighpin/neighpin".
	Repository string
	// Out is the folder to make; it must not exist.
	Out string
}

// maker is one making of a release.
type maker struct {
	Options
	deploy   manifests.Deploy
	progress io.Writer
	// info is what the program says of its build, and digest the image's, once they are made.
	info   *debug.BuildInfo
	digest v1.Hash
}

// Make makes the release. What compilers have to say, and what is made, goes to progress.
func Make(ctx context.Context, progress io.Writer, o Options) error {
	deploy, err := manifests.Open(ctx, progress)
	if err != nil {
		return err
	}
	deploy.Root = o.Checkout
	if err := belongs(deploy, o.Version); err != nil {
		return err
	}
	// What an earlier release left in it would be taken for a part of this one.
	if err := errors.Join(os.MkdirAll(filepath.Dir(o.Out), 0o755), os.Mkdir(o.Out, 0o755)); err != nil {
		return fmt.Errorf("make the folder (remove it first if it is there): %w", err)
	}
	m := &maker{Options: o, deploy: deploy, progress: progress}
	for _, step := range []func(context.Context) error{m.programs, m.chart, m.notes, m.provenance} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return WriteSums(o.Out)
}

// belongs refuses a version that is neither the one of the file VERSION nor one that comes before it.
func belongs(deploy manifests.Deploy, version string) error {
	next, err := deploy.Version()
	if err != nil {
		return err
	}
	if version != next && !strings.HasPrefix(version, next+"-") {
		return fmt.Errorf("release %s: the file VERSION says %s; write the release there, run make manifests, commit, and tag that commit", version, next)
	}
	return nil
}

// programs makes the archive and the list of modules for each architecture, and of the same files the image.
func (m *maker) programs(ctx context.Context) error {
	roots := map[string]fs.FS{}
	for _, arch := range m.Architectures {
		scratch, err := os.MkdirTemp("", "neighpin-release-")
		if err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer os.RemoveAll(scratch)
		fmt.Fprintf(m.progress, "release: building for linux/%s\n", arch)
		root := filepath.Join(scratch, "root")
		if err := product.Files(ctx, m.progress, m.Options.Options, arch, root); err != nil {
			return fmt.Errorf("build for %s: %w", arch, err)
		}
		roots[arch] = os.DirFS(root)
		if err := m.program(arch, root); err != nil {
			return fmt.Errorf("package the program for %s: %w", arch, err)
		}
	}
	return m.image(roots)
}

// base is what the files of one architecture are called, without their extensions.
func (m *maker) base(arch string) string {
	return "neighpin-" + m.Version + "-linux-" + arch
}

// program packs the files in root, and lists what is linked into the program there.
func (m *maker) program(arch, root string) error {
	err := m.create(m.base(arch)+".tar.gz", func(to io.Writer) error {
		return writeArchive(to, os.DirFS(root), m.base(arch)+"/", m.Date)
	})
	if err != nil {
		return err
	}
	program := filepath.Join(root, "neighpin")
	if m.info, err = buildinfo.ReadFile(program); err != nil {
		return fmt.Errorf("read the build information: %w", err)
	}
	bom, err := BillOfMaterials(program, m.Version, m.Date)
	if err != nil {
		return err
	}
	return m.create(m.base(arch)+".cdx.json", func(to io.Writer) error { return encode(to, bom) })
}

// imageFile holds the image of all architectures, and digestFile its digest in the form of SHA256SUMS, so that it can be
// attested like a file.
func (m *maker) imageFile() string { return "neighpin-" + m.Version + "-image.tar" }

const digestFile = "image.sha256"

func (m *maker) image(roots map[string]fs.FS) error {
	tag, err := name.NewTag(m.Repository + ":" + m.Version)
	if err != nil {
		return fmt.Errorf("name the image: %w", err)
	}
	index, err := product.Pack(m.Options.Options, roots)
	if err != nil {
		return err
	}
	if m.digest, err = index.Digest(); err != nil {
		return fmt.Errorf("describe the image: %w", err)
	}
	// Docker's older form of an archive knows one architecture; which one must not depend on who builds.
	err = m.create(m.imageFile(), func(to io.Writer) error { return product.Archive(to, index, tag, m.Architectures[0]) })
	if err != nil {
		return err
	}
	return m.create(digestFile, func(to io.Writer) error {
		_, err := fmt.Fprintf(to, "%s  %s\n", m.digest.Hex, m.Repository)
		return err
	})
}

// chart makes the chart's package, and renders install.yaml from that.
func (m *maker) chart(ctx context.Context) error {
	packed, err := m.deploy.Package(ctx, m.Version, m.Date, m.Out)
	if err != nil {
		return err
	}
	fmt.Fprintf(m.progress, "release: wrote %s\n", filepath.Base(packed))
	text, err := m.deploy.InstallOf(ctx, packed)
	if err != nil {
		return fmt.Errorf("render install.yaml: %w", err)
	}
	return m.create("install.yaml", func(to io.Writer) error {
		_, err := io.WriteString(to, text)
		return err
	})
}

// create writes a file of the release.
func (m *maker) create(name string, write func(io.Writer) error) error {
	file, err := os.Create(filepath.Join(m.Out, name))
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	fmt.Fprintf(m.progress, "release: wrote %s\n", name)
	return nil
}
