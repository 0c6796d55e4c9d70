// SPDX-License-Identifier: Apache-2.0

package product

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/neighpin/neighpin/e2e/internal/tarball"
)

// Archive writes the index as an archive that all engines read: an OCI image layout (containerd, podman, skopeo, Docker since
// 25) which also has the file manifest.json of Docker's own older form. That form knows one image per name: the one of
// native, which must be among the architectures.
func Archive(to io.Writer, index v1.ImageIndex, tag name.Tag, native string) error {
	a := archive{files: map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	raw, err := index.RawManifest()
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	top, err := a.blob(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	var legacy []legacyImage
	for _, one := range manifest.Manifests {
		image, err := index.Image(one.Digest)
		if err != nil {
			return fmt.Errorf("read the index: %w", err)
		}
		entry, err := a.image(image)
		if err != nil {
			return fmt.Errorf("archive the image for %s: %w", one.Platform, err)
		}
		if one.Platform.Architecture == native {
			entry.RepoTags = []string{canonical(tag)}
			legacy = append(legacy, entry)
		}
	}
	if len(legacy) != 1 {
		return fmt.Errorf("archive the image: there is none for %s", native)
	}
	if err := a.json("manifest.json", legacy); err != nil {
		return err
	}
	err = a.json("index.json", v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: types.OCIImageIndex, Size: int64(len(raw)), Digest: top,
		Annotations: map[string]string{nameAnnotation: canonical(tag), "org.opencontainers.image.ref.name": tag.TagStr()},
	}}})
	if err != nil {
		return err
	}
	return a.write(to)
}

// Unpack reads what Archive wrote: it extracts the archive into dir, an empty folder that must outlive the index, and returns the
// index with the name that it was given.
func Unpack(from io.Reader, dir string) (v1.ImageIndex, string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", fmt.Errorf("unpack the archive: %w", err)
	}
	defer root.Close()
	entries, err := tarball.Read(from)
	if err != nil {
		return nil, "", fmt.Errorf("unpack the archive: %w", err)
	}
	for _, entry := range entries {
		if err := errors.Join(root.MkdirAll(filepath.Dir(entry.Header.Name), 0o755), root.WriteFile(entry.Header.Name, entry.Data, 0o644)); err != nil {
			return nil, "", fmt.Errorf("unpack the archive: %w", err)
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, "", fmt.Errorf("read the image layout: %w", err)
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return nil, "", fmt.Errorf("read the image layout: %w", err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, "", fmt.Errorf("read the image layout: it holds %d images, want one index", len(manifest.Manifests))
	}
	only := manifest.Manifests[0]
	index, err := top.ImageIndex(only.Digest)
	if err != nil {
		return nil, "", fmt.Errorf("read the image layout: %w", err)
	}
	return index, only.Annotations[nameAnnotation], nil
}

// nameAnnotation is where containerd looks for an image's name in an archive.
const nameAnnotation = "io.containerd.image.name"

// canonical is the name as engines write it: Docker Hub's is docker.io to them.
func canonical(tag name.Tag) string {
	repository := strings.Replace(tag.Context().Name(), name.DefaultRegistry+"/", "docker.io/", 1)
	return repository + ":" + tag.TagStr()
}

// legacyImage is an entry of manifest.json.
type legacyImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// archive are the files of an archive by name.
type archive struct{ files map[string][]byte }

// image adds the blobs of one image.
func (a archive) image(image v1.Image) (legacyImage, error) {
	manifest, err := image.RawManifest()
	if err != nil {
		return legacyImage{}, err
	}
	if _, err := a.blob(bytes.NewReader(manifest)); err != nil {
		return legacyImage{}, err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return legacyImage{}, err
	}
	digest, err := a.blob(bytes.NewReader(config))
	if err != nil {
		return legacyImage{}, err
	}
	entry := legacyImage{Config: blobPath(digest)}
	layers, err := image.Layers()
	if err != nil {
		return legacyImage{}, err
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			return legacyImage{}, err
		}
		digest, err := a.blob(content)
		content.Close()
		if err != nil {
			return legacyImage{}, err
		}
		entry.Layers = append(entry.Layers, blobPath(digest))
	}
	return entry, nil
}

// blob adds a file that is named by its contents.
func (a archive) blob(content io.Reader) (v1.Hash, error) {
	data, err := io.ReadAll(content)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read a blob: %w", err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read a blob: %w", err)
	}
	a.files[blobPath(digest)] = data
	return digest, nil
}

func blobPath(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

func (a archive) json(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	a.files[path] = data
	return nil
}

// write writes the files in the order of their names, without times.
func (a archive) write(to io.Writer) error {
	writer := tar.NewWriter(to)
	for _, path := range slices.Sorted(maps.Keys(a.files)) {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: int64(len(a.files[path]))}
		if err := writer.WriteHeader(header); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		if _, err := writer.Write(a.files[path]); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}
