// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/manifests"
)

// Push puts the image of a finished release into its registry, under the release's version: the very image of which the checksums
// speak, not one that is built again. What comes before a release is refused, and so are files that are not as they were made.
func Push(ctx context.Context, progress io.Writer, o Options, credentials authn.Keychain) error {
	released, err := (manifests.Deploy{Root: o.Checkout}).Version()
	if err != nil {
		return err
	}
	if o.Version != released {
		return fmt.Errorf("push %s: it is no release, the file VERSION says %s; tag the commit and make the release there", o.Version, released)
	}
	if err := Verify(o.Out); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "neighpin-push-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	m := maker{Options: o}
	archive, err := os.Open(filepath.Join(o.Out, m.imageFile()))
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer archive.Close()
	index, called, err := product.Unpack(archive, scratch)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(o.Repository + ":" + o.Version)
	if err != nil {
		return fmt.Errorf("name the image: %w", err)
	}
	if called != tag.Name() {
		return fmt.Errorf("push %s: the archive holds %s", tag, called)
	}
	digest, err := m.attested()
	if err != nil {
		return err
	}
	got, err := index.Digest()
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	if got != digest {
		return fmt.Errorf("push %s: the archive's digest is %s, %s says %s", tag, got, digestFile, digest)
	}
	if err := remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(credentials)); err != nil {
		return fmt.Errorf("push the image: %w", err)
	}
	fmt.Fprintf(progress, "release: pushed %s@%s\n", tag, digest)
	return nil
}

// attested is the digest that the release says its image has.
func (m *maker) attested() (v1.Hash, error) {
	line, err := os.ReadFile(filepath.Join(m.Out, digestFile))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read the image's digest: %w", err)
	}
	hexadecimal, _, _ := strings.Cut(string(line), " ")
	digest, err := v1.NewHash("sha256:" + hexadecimal)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read the image's digest: %w", err)
	}
	return digest, nil
}
