// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/neighpin/neighpin/e2e/internal/image"
)

// programImage is an image of one static program.
type programImage struct {
	// reference is the image's name and tag.
	reference string
	// program is the file on this machine, target its path in the image, without the leading slash.
	program, target string
	// entrypoint is empty where the pod names its command.
	entrypoint []string
}

// archive writes the image as `docker load` and `ctr images import` read it.
func (p programImage) archive(to io.Writer) error {
	built, err := image.OfProgram(p.program, p.target, v1.Config{
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Entrypoint: p.entrypoint,
	})
	if err != nil {
		return fmt.Errorf("build image %s: %w", p.reference, err)
	}
	tag, err := name.NewTag(p.reference)
	if err != nil {
		return fmt.Errorf("name image %s: %w", p.reference, err)
	}
	if err := tarball.Write(tag, built, to); err != nil {
		return fmt.Errorf("write image %s: %w", p.reference, err)
	}
	return nil
}
