// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// programImage is an image of one static program. Its layer is not compressed: it never travels.
type programImage struct {
	// reference is the image's name and tag.
	reference string
	// program is the file on this machine, target its path in the image, without the leading slash.
	program, target string
	// entrypoint is empty where the pod names its command.
	entrypoint []string
}

// image builds it. Nothing in it depends on when it is built.
func (p programImage) image() (v1.Image, error) {
	content, err := os.ReadFile(p.program)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	writer := tar.NewWriter(&layer)
	if err := writer.WriteHeader(&tar.Header{Name: p.target, Mode: 0o755, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := writer.Write(content); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	fromMemory, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer.Bytes())), nil
	}, tarball.WithCompressionLevel(0))
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, fromMemory)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config = v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Entrypoint: p.entrypoint}
	return mutate.ConfigFile(image, config)
}

// archive writes the image as `docker load` and `ctr images import` read it.
func (p programImage) archive(to io.Writer) error {
	image, err := p.image()
	if err != nil {
		return fmt.Errorf("build image %s: %w", p.reference, err)
	}
	tag, err := name.NewTag(p.reference)
	if err != nil {
		return fmt.Errorf("name image %s: %w", p.reference, err)
	}
	if err := tarball.Write(tag, image, to); err != nil {
		return fmt.Errorf("write image %s: %w", p.reference, err)
	}
	return nil
}
