// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/neighpin/neighpin/e2e/internal/product"
)

// ProductImage builds neighpin's image of this checkout under that name, for this machine, and loads it into the daemon.
func ProductImage(ctx context.Context, d *Docker, m Materials, reference, version string) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("name the image: %w", err)
	}
	index, err := product.Build(ctx, os.Stderr, product.Options{
		Checkout: m.Checkout, Architectures: []string{runtime.GOARCH}, Version: version, Revision: "e2e", Date: time.Unix(0, 0),
	})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := product.Archive(&archive, index, tag, runtime.GOARCH); err != nil {
		return err
	}
	if _, err := d.Output(ctx, &archive, "load"); err != nil {
		return fmt.Errorf("load the image: %w", err)
	}
	return nil
}

// filesImage holds the files that the product's Dockerfile takes instead of making them: the Go image, which its build
// stage starts from, is in a registry.
const filesImage = "neighpin.io/e2e/files:1"

// ImportFiles makes the image of the files that DockerfileImage packs, for this machine.
func ImportFiles(ctx context.Context, d *Docker, o product.Options) (err error) {
	scratch, err := os.MkdirTemp("", "neighpin-image-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := product.Files(ctx, os.Stderr, o, runtime.GOARCH, filepath.Join(scratch, "image")); err != nil {
		return err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := errors.Join(writer.AddFS(os.DirFS(scratch)), writer.Close()); err != nil {
		return fmt.Errorf("pack the files: %w", err)
	}
	if _, err := d.Output(ctx, &archive, "import", "-", filesImage); err != nil {
		return fmt.Errorf("import the files: %w", err)
	}
	return nil
}

// DockerfileImage builds the image of the repository's Dockerfile under that name, with the files of ImportFiles. Nothing
// that an earlier build has left is used.
func DockerfileImage(ctx context.Context, d *Docker, o product.Options, reference string) error {
	return d.build(ctx, buildKit, nil, "--no-cache", "--build-arg", "BINARY="+filesImage, "--build-arg", "VERSION="+o.Version,
		"--build-arg", "REVISION="+o.Revision, "--build-arg", "SOURCE_DATE_EPOCH="+strconv.FormatInt(o.Date.Unix(), 10),
		"--tag", reference, o.Checkout)
}

// BuildContext writes to the folder target what Docker sends of the checkout to a build: what .dockerignore leaves.
func BuildContext(ctx context.Context, d *Docker, checkout, target string) (err error) {
	scratch, err := os.MkdirTemp("", "neighpin-image-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	dockerfile := filepath.Join(scratch, "Dockerfile")
	if err := os.WriteFile(dockerfile, []byte("FROM scratch\nCOPY . /\n"), 0o600); err != nil {
		return fmt.Errorf("write a Dockerfile: %w", err)
	}
	return d.build(ctx, buildKit, nil, "--no-cache", "--file", dockerfile, "--output", "type=local,dest="+target, checkout)
}
