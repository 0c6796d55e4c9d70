// SPDX-License-Identifier: Apache-2.0

package product_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/kind"
)

// firstEnv carries the digest of the image that was built outside, in the checkout, to the tests.
const firstEnv = "NEIGHPIN_E2E_IMAGE"

func TestMain(m *testing.M) { os.Exit(enclosure.Main(prepare, m.Run)) }

// prepare installs the engines and builds the image for the first time, where the Go command reaches its modules.
func prepare(ctx context.Context) ([]string, error) {
	if err := kind.InstallDocker(ctx, os.Stderr); err != nil {
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
	o, err := options()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "image: building for", o.Architectures)
	index, err := product.Build(ctx, os.Stderr, o)
	if err != nil {
		return nil, err
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	return append(env, firstEnv+"="+digest.String()), nil
}

// options are those of every image here.
func options() (product.Options, error) {
	root, err := parts.Root()
	return product.Options{
		Checkout: filepath.Dir(root), Architectures: product.Architectures(),
		Version: "v0.0.0-e2e", Revision: "0123456789abcdef", Date: time.Unix(1700000000, 0),
	}, err
}

func mustOptions(t *testing.T) product.Options {
	t.Helper()
	o, err := options()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// second is the image built once more, by the tests: in another folder, by somebody with other habits.
var second = sync.OnceValues(func() (v1.ImageIndex, error) {
	o, err := options()
	if err != nil {
		return nil, err
	}
	elsewhere, err := os.MkdirTemp("", "neighpin-elsewhere-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(elsewhere)
	// What the build reads, and not the other gigabytes that a checkout may hold.
	for _, path := range []string{"hooks", "internal", "pkg", "plugin"} {
		if err := os.CopyFS(filepath.Join(elsewhere, path), os.DirFS(filepath.Join(o.Checkout, path))); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{"go.mod", "go.sum", "LICENSE"} {
		content, err := os.ReadFile(filepath.Join(o.Checkout, path))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(elsewhere, path), content, 0o600); err != nil {
			return nil, err
		}
	}
	o.Checkout = elsewhere
	for key, value := range map[string]string{"TZ": "Asia/Kolkata", "GOFLAGS": "-ldflags=-s", "GOAMD64": "v3", "GOARM64": "v9.0", "USER": "somebody"} {
		if err := os.Setenv(key, value); err != nil {
			return nil, err
		}
		defer os.Unsetenv(key)
	}
	return product.Build(context.Background(), os.Stderr, o)
})

// built is the image under test.
func built(t *testing.T) v1.ImageIndex {
	t.Helper()
	index, err := second()
	if err != nil {
		t.Fatal(err)
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
	text, _ := json.Marshal(manifest)
	t.Fatalf("there is no image for linux/%s in %s", arch, text)
	return nil
}
