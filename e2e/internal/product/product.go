// SPDX-License-Identifier: Apache-2.0

// Package product makes neighpin's own container image without an engine: what the Dockerfile makes, for several
// architectures, as an archive or straight into a registry.
//
// The files come from internal/cmd/rootfs, which the Dockerfile runs too. With one release of Go the digest depends on nothing but the
// sources and Options.
package product

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Architectures are those that an image is published for.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Options are all that decides what the image is, besides the sources.
type Options struct {
	// Checkout is the repository's root.
	Checkout string
	// Architectures are in the order of the index.
	Architectures []string
	// Version is what the program and a label say; Revision is the commit.
	Version, Revision string
	// Date is the time of all files and of the image, in seconds.
	Date time.Time
}

// Build builds the image of each architecture and returns their index. What the compiler has to say goes to progress.
func Build(ctx context.Context, progress io.Writer, o Options) (v1.ImageIndex, error) {
	roots := map[string]fs.FS{}
	for _, arch := range o.Architectures {
		scratch, err := os.MkdirTemp("", "neighpin-image-")
		if err != nil {
			return nil, fmt.Errorf("make a folder: %w", err)
		}
		defer os.RemoveAll(scratch)
		root := filepath.Join(scratch, "root")
		if err := Files(ctx, progress, o, arch, root); err != nil {
			return nil, fmt.Errorf("build the image for %s: %w", arch, err)
		}
		roots[arch] = os.DirFS(root)
	}
	return Pack(o, roots)
}

// Pack makes the image of each architecture of its root folder, which Files has made, and returns their index. The folders are
// read before it returns.
func Pack(o Options, roots map[string]fs.FS) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range o.Architectures {
		packed, err := packOne(o, arch, roots[arch])
		if err != nil {
			return nil, fmt.Errorf("pack the image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        packed,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index, nil
}

func packOne(o Options, arch string, root fs.FS) (v1.Image, error) {
	var archive bytes.Buffer
	if err := WriteTar(&archive, root, "", o.Date); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make the layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	built, err := mutate.Append(base, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: o.Date.UTC()}, CreatedBy: "internal/cmd/rootfs"},
	})
	if err != nil {
		return nil, fmt.Errorf("add the layer: %w", err)
	}
	file, err := built.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("configure the image: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", arch, v1.Time{Time: o.Date.UTC()}, config(o)
	return mutate.ConfigFile(built, file)
}

// config says the same as the Dockerfile; a test compares them.
func config(o Options) v1.Config {
	return v1.Config{
		Entrypoint: []string{"/neighpin"},
		Cmd:        []string{"plugin"},
		WorkingDir: "/",
		// BuildKit gives it to every image.
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":         "neighpin",
			"org.opencontainers.image.description":   "Pins the gateway neighbors of sandboxed pods before their runtime reads them",
			"org.opencontainers.image.source":        "https://github.com/neighpin/neighpin",
			"org.opencontainers.image.documentation": "https://github.com/neighpin/neighpin/tree/main/docs",
			"org.opencontainers.image.licenses":      "Apache-2.0",
			"org.opencontainers.image.version":       o.Version,
			"org.opencontainers.image.revision":      o.Revision,
		},
	}
}

// Files makes dir, which must not exist, the root folder of the image for that architecture.
func Files(ctx context.Context, progress io.Writer, o Options, arch, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", "-trimpath", "./internal/cmd/rootfs", "-arch", arch, "-version", o.Version, "-out", dir)
	cmd.Dir = o.Checkout
	// Built as the program is that it builds, it shares what is compiled of the standard library.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off", "SOURCE_DATE_EPOCH="+strconv.FormatInt(o.Date.Unix(), 10))
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make the image's files: %w", err)
	}
	return nil
}

// WriteTar writes the files in the order of their names, below folder, which ends in a slash or is empty. Owners are root, times are
// date, modes are the files' own.
func WriteTar(to io.Writer, files fs.FS, folder string, date time.Time) error {
	writer := tar.NewWriter(to)
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: folder + path, Mode: int64(info.Mode().Perm()), ModTime: date}
		if entry.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
			return writer.WriteHeader(header)
		}
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		header.Size = int64(len(content))
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		_, err = writer.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("pack files: %w", err)
	}
	return writer.Close()
}

// Size is that of an image's layers in bytes: unpacked, as tar archives, and compressed, as they travel.
type Size struct{ Unpacked, Compressed int64 }

// SizeOf is the size of one image of an index.
func SizeOf(index v1.ImageIndex, digest v1.Hash) (Size, error) {
	image, err := index.Image(digest)
	if err != nil {
		return Size{}, err
	}
	layers, err := image.Layers()
	if err != nil {
		return Size{}, err
	}
	var size Size
	for _, layer := range layers {
		compressed, err := layer.Size()
		if err != nil {
			return Size{}, err
		}
		content, err := layer.Uncompressed()
		if err != nil {
			return Size{}, err
		}
		unpacked, err := io.Copy(io.Discard, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return Size{}, err
		}
		size.Compressed += compressed
		size.Unpacked += unpacked
	}
	return size, nil
}
