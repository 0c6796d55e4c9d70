// SPDX-License-Identifier: Apache-2.0

package product_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/kind"
)

func TestDockerTakesTheArchiveAndBuildsTheSame(t *testing.T) {
	ctx, o := t.Context(), mustOptions(t)
	docker, err := kind.StartDocker(ctx, kind.Materials{Cache: t.TempDir(), RuncWithin: "/usr/sbin/runc"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := docker.Close(); err != nil {
			t.Error(err)
		}
	})
	out, err := docker.Output(ctx, nil, "load", "--input", first())
	if err != nil || !strings.Contains(out, reference) {
		t.Fatalf("docker load says %q, %v", out, err)
	}
	ours := saved(t, docker, reference)

	if err := kind.ImportFiles(ctx, docker, o); err != nil {
		t.Fatal(err)
	}
	const byDockerfile = "registry.example.com/neighpin:dockerfile"
	if err := kind.DockerfileImage(ctx, docker, o, byDockerfile); err != nil {
		t.Fatal(err)
	}
	theirs := saved(t, docker, byDockerfile)
	if diff := cmp.Diff(summary(t, ours), summary(t, theirs)); diff != "" {
		t.Errorf("files without an engine (-) and by the Dockerfile (+) differ:\n%s", diff)
	}
	if diff := cmp.Diff(configOf(t, ours), configOf(t, theirs), cmpopts.EquateEmpty(), noise); diff != "" {
		t.Errorf("configurations without an engine (-) and by the Dockerfile (+) differ:\n%s", diff)
	}

	// Debian's Docker cannot be told when the image was made, but all else is the same again.
	if err := kind.DockerfileImage(ctx, docker, o, byDockerfile); err != nil {
		t.Fatal(err)
	}
	if once, again := layers(t, theirs), layers(t, saved(t, docker, byDockerfile)); !slices.Equal(once, again) {
		t.Errorf("two builds by the Dockerfile have the layers %v and %v", once, again)
	}

	t.Run("the build stage finds what it needs in the context", func(t *testing.T) {
		testBuildStage(t, docker, o)
	})
}

// testBuildStage runs the Dockerfile's own command in what .dockerignore leaves of the checkout.
func testBuildStage(t *testing.T, docker *kind.Docker, o product.Options) {
	dockerfile, err := os.ReadFile(filepath.Join(o.Checkout, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^RUN (go run .*) -out /image$`).FindSubmatch(dockerfile)
	if command == nil {
		t.Fatalf("there is no `RUN go run ... -out /image` in the Dockerfile:\n%s", dockerfile)
	}
	sources, output := t.TempDir(), filepath.Join(t.TempDir(), "image")
	if err := kind.BuildContext(t.Context(), docker, o.Checkout, sources); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{".git", "e2e", "bin", "docs"} {
		if _, err := os.Stat(filepath.Join(sources, path)); err == nil {
			t.Errorf("%s is sent to the build", path)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", string(command[1])+" -out "+output)
	cmd.Dir = sources
	cmd.Env = append(os.Environ(), "TARGETARCH="+runtime.GOARCH, "VERSION="+o.Version, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[1], err, out)
	}
	want := filesFor(t, runtime.GOARCH)["neighpin"].content
	got, err := os.ReadFile(filepath.Join(output, "neighpin"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the build stage makes another program")
	}
}

func TestContainerdTakesTheArchiveAndRunsTheImage(t *testing.T) {
	ctx := t.Context()
	programs, err := setup.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(ctx, programs, node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctr := func(args ...string) string {
		t.Helper()
		args = append([]string{"--address", node.ContainerdSocket, "--namespace", "k8s.io"}, args...)
		out, err := exec.CommandContext(ctx, filepath.Join(programs.Containerd, "ctr"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ctr("images", "import", first())
	ctr("images", "import", "--all-platforms", "--digests", first()) // as kind load image-archive does
	digest, err := layoutIn(t, first()).Digest()
	if err != nil {
		t.Fatal(err)
	}
	listed := ctr("images", "list", "name=="+reference)
	for _, want := range []string{digest.String(), "linux/amd64", "linux/arm64"} {
		if !strings.Contains(listed, want) {
			t.Errorf("ctr lists no %s:\n%s", want, listed)
		}
	}
	if out, want := ctr("run", "--rm", reference, "version", "/neighpin", "version"), mustOptions(t).Version; !strings.Contains(out, want) {
		t.Errorf("the image says %q, want %s in it", out, want)
	}
}

func TestARegistryGetsEveryArchitecture(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	defer server.Close()
	target := strings.TrimPrefix(server.URL, "http://") + "/neighpin:e2e"
	o := mustOptions(t)
	if err := runBuilder(t.Context(), o.Checkout, nil, "-name", target, "-push"); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(target)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pulled.Digest()
	if err != nil {
		t.Fatal(err)
	}
	want, err := layoutIn(t, first()).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("pushed is %s, want %s", got, want)
	}
	for _, arch := range o.Architectures {
		layers, err := imageFor(t, pulled, arch).Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range layers {
			content, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			// What is read is compared with its digest.
			if _, err := io.Copy(io.Discard, content); err != nil {
				t.Errorf("pull the image for %s: %v", arch, err)
			}
			content.Close()
		}
	}
}

// saved is an image as Docker hands it out.
func saved(t *testing.T, docker *kind.Docker, reference string) v1.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "saved.tar")
	if _, err := docker.Output(t.Context(), nil, "save", "--output", path, reference); err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// noise is what BuildKit sets in every image; on Linux it means nothing.
var noise = cmpopts.IgnoreFields(v1.Config{}, "ArgsEscaped")

func configOf(t *testing.T, image v1.Image) v1.Config {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file.Config
}

// layers are the digests of what is in an image's layers.
func layers(t *testing.T, image v1.Image) []v1.Hash {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file.RootFS.DiffIDs
}

// summary says of each file what a difference is shown by.
func summary(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	files := map[string]string{}
	for path, f := range contents(t, image) {
		files[path] = fmt.Sprintf("dir %t, mode %o, owner %s, %s, sha256 %x", f.dir, f.mode, f.owner, f.modified.UTC(), sha256.Sum256(f.content))
	}
	return files
}
