// SPDX-License-Identifier: Apache-2.0

// Command release makes the files of a release, verifies them, and puts the image into its registry.
//
//	release make -version v0.1.0 -revision COMMIT -out FOLDER
//	release verify -out FOLDER
//	release push -version v0.1.0 -out FOLDER
//
// $SOURCE_DATE_EPOCH (seconds since 1970) is the time that all files are of, else the commit's is. push takes the image of the folder,
// once all files agree with their checksums; it finds credentials Docker's way, in $DOCKER_CONFIG or ~/.docker/config.json, and for
// ghcr.io in $GITHUB_TOKEN. docs/release.md says how they belong together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/github"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/release"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

func main() {
	os.Exit(command.Run("release", func(ctx context.Context) error { return run(ctx, os.Args[1:], os.Stderr) }))
}

func run(ctx context.Context, args []string, progress io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: release make|verify|push [flags]")
	}
	o := release.Options{Options: product.Options{Architectures: product.Architectures()}}
	flags := flag.NewFlagSet("release "+args[0], flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.StringVar(&o.Version, "version", "", "`version`: that of the file VERSION, or one that comes before it")
	flags.StringVar(&o.Revision, "revision", "unknown", "`commit` that is built")
	flags.StringVar(&o.Repository, "image", "ghcr.io/neighpin/neighpin", "`repository` of the image")
	flags.StringVar(&o.Out, "out", "", "`folder` of the release")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if o.Out == "" || flags.NArg() != 0 {
		return fmt.Errorf("usage: release %s -out FOLDER [flags]", args[0])
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	o.Checkout = filepath.Dir(root)
	switch args[0] {
	case "make":
		if o.Date, err = command.SourceDate(ctx); err != nil {
			return err
		}
		return release.Make(ctx, progress, o)
	case "verify":
		return release.Verify(o.Out)
	case "push":
		return release.Push(ctx, progress, o, authn.NewMultiKeychain(authn.DefaultKeychain, github.Keychain))
	default:
		return fmt.Errorf("there is no command %q: make, verify and push are", args[0])
	}
}
