// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/image"
)

// importImages puts one image under two names into containerd: the workload's and the pause container's.
func (n *Node) importImages(ctx context.Context) error {
	workload, err := image.OfProgram(filepath.Join(n.programs.Own, "workload"), "workload", v1.Config{Entrypoint: []string{"/workload"}})
	if err != nil {
		return fmt.Errorf("make the image: %w", err)
	}
	names := map[name.Reference]v1.Image{}
	for _, reference := range []string{Image, pauseImage} {
		tag, err := name.NewTag(reference)
		if err != nil {
			return err
		}
		names[tag] = workload
	}
	archive := filepath.Join(dir, "image.tar")
	if err := tarball.MultiRefWriteToFile(archive, names); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(n.programs.Containerd, "ctr"), "--address", ContainerdSocket, "--namespace", "k8s.io", "images", "import", archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import the image: %w\n%s", err, out)
	}
	// The CRI learns of an import through an event.
	for _, reference := range []string{Image, pauseImage} {
		err := await.Within(quiet(ctx), startLimit, "image "+reference, func() error {
			status, err := n.images.ImageStatus(quiet(ctx), &criapi.ImageSpec{Image: reference}, false)
			if err == nil && status.Image == nil {
				err = fmt.Errorf("the CRI does not know it")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
