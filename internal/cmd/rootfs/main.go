// SPDX-License-Identifier: Apache-2.0

// Command rootfs makes the folder that the container image holds: the static program, the project's license, and
// those of everything that is linked into the program.
//
//	go run ./internal/cmd/rootfs -arch arm64 -version v0.1.0 -out FOLDER
//
// The Dockerfile and the builder without an engine (e2e/cmd/image) both run it, in the repository's root, so that their images hold the
// same files. With one release of Go it makes the same bytes, modes and times everywhere; the times are $SOURCE_DATE_EPOCH (seconds
// since 1970), else the commit's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/neighpin/neighpin/internal/cmd/command"
)

func main() {
	os.Exit(command.Run("rootfs", func(ctx context.Context) error { return run(ctx, os.Args[1:]) }))
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("rootfs", flag.ContinueOnError)
	arch := flags.String("arch", runtime.GOARCH, "processor `architecture`, as Go calls it")
	version := flags.String("version", "unknown", "what the program says its `version` is")
	out := flags.String("out", "", "`folder` to make; it must not exist")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() != 0 {
		return errors.New("usage: rootfs [-arch ARCH] [-version VERSION] -out FOLDER")
	}
	date, err := command.SourceDate(ctx)
	if err != nil {
		return err
	}
	// What an earlier run left in it would end up in an image.
	if err := os.Mkdir(*out, 0o755); err != nil {
		return fmt.Errorf("make the folder (remove it first if it is there): %w", err)
	}
	if err := build(ctx, *arch, *version, filepath.Join(*out, "neighpin")); err != nil {
		return err
	}
	if err := copyFile("LICENSE", filepath.Join(*out, "LICENSE")); err != nil {
		return err
	}
	if err := collectLicenses(ctx, *arch, filepath.Join(*out, "licenses")); err != nil {
		return err
	}
	return settle(*out, date)
}

// build links the program. Paths, the state of the checkout and settings of the user's own stay out of it.
func build(ctx context.Context, arch, version, output string) error {
	output, err := filepath.Abs(output)
	if err != nil {
		return err
	}
	cmd := goCommand(ctx, arch, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", output, "./plugin")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the program: %w", err)
	}
	return nil
}

// goCommand is the Go command for programs of Linux on that architecture, without cgo and hence static.
func goCommand(ctx context.Context, arch string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off")
	return cmd
}

// settle gives everything below dir a mode and a time that do not tell who made it, and when.
func settle(dir string, date time.Time) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("set modes and times: %w", err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if entry.IsDir() || path == "neighpin" {
			mode = 0o755
		}
		return errors.Join(root.Chmod(path, mode), root.Chtimes(path, date, date))
	})
}
