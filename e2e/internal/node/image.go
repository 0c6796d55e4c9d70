// SPDX-License-Identifier: Apache-2.0

package node

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// importImages puts one image under two names into containerd: the workload's and the pause container's.
func (n *Node) importImages(ctx context.Context) error {
	image, err := workloadImage(filepath.Join(n.programs.Own, "workload"))
	if err != nil {
		return fmt.Errorf("make the image: %w", err)
	}
	names := map[name.Reference]v1.Image{}
	for _, reference := range []string{Image, pauseImage} {
		tag, err := name.NewTag(reference)
		if err != nil {
			return err
		}
		names[tag] = image
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

// workloadImage is an image of one static binary.
func workloadImage(binary string) (v1.Image, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	if err := writer.WriteHeader(&tar.Header{Name: "workload", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := writer.Write(program); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config.Entrypoint = []string{"/workload"}
	return mutate.ConfigFile(image, file)
}
