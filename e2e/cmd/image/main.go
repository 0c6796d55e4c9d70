// SPDX-License-Identifier: Apache-2.0

// Command image builds neighpin's container image for all architectures, without an engine, and writes it to an archive or
// pushes it to a registry.
//
//	go run ./cmd/image -name registry.example.com/neighpin:dev -archive image.tar
//	docker load -i image.tar
//	ctr -n k8s.io images import image.tar
//
// $SOURCE_DATE_EPOCH (seconds since 1970) is the time that the image is of, else the commit's is. Where -push finds the credentials is
// Docker's way: $DOCKER_CONFIG or ~/.docker/config.json.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

func main() {
	os.Exit(command.Run("image", func(ctx context.Context) error { return run(ctx, os.Args[1:], os.Stdout, os.Stderr) }))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o product.Options
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	reference := flags.String("name", "", "`name` of the image, with its registry and tag")
	path := flags.String("archive", "", "`file` to write")
	push := flags.Bool("push", false, "push to the registry in the name")
	arches := flags.String("arch", strings.Join(product.Architectures(), ","), "`architectures`, separated by commas")
	flags.StringVar(&o.Version, "version", "unknown", "`version` that the program and a label say")
	flags.StringVar(&o.Revision, "revision", "unknown", "`commit` that a label says")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *path == "" && !*push {
		return errors.New("say what to do with the image: -archive FILE, -push, or both")
	}
	tag, err := name.NewTag(*reference)
	if err != nil {
		return fmt.Errorf("read -name: %w", err)
	}
	if o.Date, err = command.SourceDate(ctx); err != nil {
		return err
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	o.Checkout, o.Architectures = filepath.Dir(root), strings.Split(*arches, ",")
	index, err := product.Build(ctx, stderr, o)
	if err != nil {
		return err
	}
	if err := describe(stdout, tag, index); err != nil {
		return err
	}
	if *path != "" {
		if err := writeArchive(*path, index, tag, o.Architectures); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "written to %s\n", *path)
	}
	if *push {
		if err := remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return fmt.Errorf("push the image: %w", err)
		}
		fmt.Fprintf(stdout, "pushed to %s\n", tag)
	}
	return nil
}

// writeArchive writes the archive; for Docker's older form it chooses this machine's architecture, else the first.
func writeArchive(path string, index v1.ImageIndex, tag name.Tag, architectures []string) error {
	native := architectures[0]
	if slices.Contains(architectures, runtime.GOARCH) {
		native = runtime.GOARCH
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return errors.Join(product.Archive(file, index, tag, native), file.Close())
}

// describe prints the digest, and of each image the size as it is stored and as it travels.
func describe(to io.Writer, tag name.Tag, index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("describe the image: %w", err)
	}
	fmt.Fprintf(to, "%s@%s\n", tag, digest)
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("describe the image: %w", err)
	}
	for _, one := range manifest.Manifests {
		size, err := product.SizeOf(index, one.Digest)
		if err != nil {
			return fmt.Errorf("describe the image: %w", err)
		}
		fmt.Fprintf(to, "  %-12s %s  %.1f MiB, compressed %.1f MiB\n", one.Platform, one.Digest, mib(size.Unpacked), mib(size.Compressed))
	}
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
