// SPDX-License-Identifier: Apache-2.0

package product_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// folderEnv names the folder with what is built outside: the builder, and the archive that it makes of the checkout.
const folderEnv = "NEIGHPIN_E2E_IMAGE"

// reference is what the image is called.
const reference = "registry.example.com/neighpin:e2e"

func TestMain(m *testing.M) {
	os.Exit(enclosure.Main(prepare, func() int {
		defer os.RemoveAll(os.Getenv(folderEnv))
		return m.Run()
	}))
}

// prepare installs the engines and builds the image for the first time, where the Go command reaches its modules. The builder is a
// program of its own: with the race detector, which tests have, it would compress for minutes.
func prepare(ctx context.Context) ([]string, error) {
	if err := setup.Docker(ctx, os.Stderr); err != nil {
		return nil, err
	}
	programs, err := setup.All(ctx, os.Stderr, setup.Newest)
	if err != nil {
		return nil, err
	}
	env, err := programs.Environment()
	if err != nil {
		return nil, err
	}
	root, err := parts.Root()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "neighpin-image-")
	if err != nil {
		return nil, err
	}
	if err := os.Setenv(folderEnv, folder); err != nil {
		return nil, err
	}
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		return nil, err
	}
	if err := builder.Program(ctx, root, "./cmd/image", filepath.Join(folder, "image")); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "image: building for", product.Architectures())
	if err := runBuilder(ctx, filepath.Dir(root), nil, "-archive", first()); err != nil {
		return nil, err
	}
	return append(env, folderEnv+"="+folder), nil
}

// first is the archive that prepare has made.
func first() string { return filepath.Join(os.Getenv(folderEnv), "first.tar") }

// options are those of every image here.
func options() product.Options {
	return product.Options{
		Architectures: product.Architectures(), Version: "v0.0.0-e2e", Revision: "0123456789abcdef", Date: time.Unix(1700000000, 0),
	}
}

// mustOptions are options with the checkout.
func mustOptions(t *testing.T) product.Options {
	t.Helper()
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Checkout = filepath.Dir(root)
	return o
}

// runBuilder runs cmd/image in a checkout, with further variables in its environment.
func runBuilder(ctx context.Context, checkout string, env []string, args ...string) error {
	o := options()
	args = append([]string{"-name", reference, "-version", o.Version, "-revision", o.Revision}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv(folderEnv), "image"), args...)
	cmd.Dir = checkout
	cmd.Env = append(append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.Date.Unix())), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("image %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// layoutIn reads an archive, in which there must be the one index.
func layoutIn(t *testing.T, path string) v1.ImageIndex {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	index, called, err := product.Unpack(file, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if called != reference {
		t.Fatalf("the archive's image is called %q, want %q", called, reference)
	}
	return index
}

// imageFor is the image of an architecture.
func imageFor(t *testing.T, index v1.ImageIndex, arch string) v1.Image {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range manifest.Manifests {
		if one.Platform.OS == "linux" && one.Platform.Architecture == arch {
			image, err := index.Image(one.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return image
		}
	}
	t.Fatalf("there is no image for linux/%s in %+v", arch, manifest)
	return nil
}

// unpacked are the files of the images, read once.
var unpacked sync.Map

// filesFor are the files of the image of an architecture.
func filesFor(t *testing.T, arch string) map[string]file {
	t.Helper()
	if files, ok := unpacked.Load(arch); ok {
		return files.(map[string]file)
	}
	files := contents(t, imageFor(t, layoutIn(t, first()), arch))
	unpacked.Store(arch, files)
	return files
}
