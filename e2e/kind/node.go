// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// node holds the Dockerfile of the node image, the files that lie over kind's own, and the cluster's configuration.
//
//go:embed node
var node embed.FS

const (
	nodeRepository   = "neighpin-kind-node"
	debianRepository = "neighpin-kind-debian"

	// pauseImage is what node/image/etc/containerd/config.toml names.
	pauseImage = "registry.k8s.io/pause:3.10.1"

	// WorkloadImage is in the node for the tests' pods: e2e/cmd/workload as its only file.
	WorkloadImage = "neighpin.io/e2e/workload:1"
)

// NodeImage returns the name of the node image in the daemon's store, building it unless it is there. Its tag is made
// of everything that goes into it. Older node images are removed.
func NodeImage(ctx context.Context, d *Docker, m Materials, progress io.Writer) (string, error) {
	tag, err := nodeTag(m)
	if err != nil {
		return "", err
	}
	reference := nodeRepository + ":" + tag
	if _, err := d.Output(ctx, nil, "image", "inspect", "--format", "{{.Id}}", reference); err == nil {
		return reference, nil
	}
	start := time.Now()
	fmt.Fprintf(progress, "node image %s: building\n", tag)
	if err := removeImages(ctx, d, nodeRepository); err != nil {
		return "", err
	}
	base, err := debianImage(ctx, d, m)
	if err != nil {
		return "", err
	}
	images, err := kubernetesImages(ctx, m)
	if err != nil {
		return "", err
	}
	build, written := io.Pipe()
	go func() { written.CloseWithError(writeContext(written, m, images)) }()
	defer build.Close()
	if err := d.build(ctx, classic, build, "--build-arg", "BASE="+base, "--tag", reference, "-"); err != nil {
		return "", err
	}
	fmt.Fprintf(progress, "node image %s: built, %s\n", tag, time.Since(start).Round(time.Second))
	return reference, nil
}

// nodeTag condenses what the node image is made of. Parts and Debian carry their contents in their names.
func nodeTag(m Materials) (string, error) {
	inputs := []string{m.Debian, m.Kind.Dir, m.Programs.Containerd, m.Programs.GVisor, m.Programs.CNI, m.Etcd.Dir, m.Kubernetes.Dir}
	for i := range inputs {
		inputs[i] = filepath.Base(inputs[i])
	}
	workload, err := os.ReadFile(m.workload())
	if err != nil {
		return "", fmt.Errorf("read the workload: %w", err)
	}
	inputs = append(inputs, string(workload))
	err = fs.WalkDir(node, "node", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := node.ReadFile(name)
		inputs = append(inputs, name, string(data))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the node's files: %w", err)
	}
	return digest(inputs...), nil
}

// removeImages removes all images of a repository from the daemon's store.
func removeImages(ctx context.Context, d *Docker, repository string) error {
	ids, err := d.Output(ctx, nil, "images", "--quiet", repository)
	if err != nil || ids == "" {
		return err
	}
	_, err = d.Output(ctx, nil, append([]string{"rmi", "--force"}, strings.Fields(ids)...)...)
	return err
}

// debianImage gives the daemon the root folder from the cache as an image.
func debianImage(ctx context.Context, d *Docker, m Materials) (string, error) {
	reference := debianRepository + ":" + strings.TrimSuffix(filepath.Base(m.Debian), ".tar")
	if _, err := d.Output(ctx, nil, "image", "inspect", "--format", "{{.Id}}", reference); err == nil {
		return reference, nil
	}
	if err := removeImages(ctx, d, debianRepository); err != nil {
		return "", err
	}
	_, err := d.Output(ctx, nil, "import", m.Debian, reference)
	return reference, err
}

// kubernetesImages are those that a control plane runs, under the names that kubeadm looks for, with those of the pods.
func kubernetesImages(ctx context.Context, m Materials) ([]programImage, error) {
	kubernetes := m.Kubernetes
	cmd := command(ctx, kubernetes.Path("kubeadm"), "config", "images", "list", "--kubernetes-version", kubernetes.Version)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	listed, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask kubeadm for its images: %w\n%s", err, stderr.String())
	}
	programs := map[string]string{
		"kube-apiserver":          kubernetes.Path("kube-apiserver"),
		"kube-controller-manager": kubernetes.Path("kube-controller-manager"),
		"kube-scheduler":          kubernetes.Path("kube-scheduler"),
		"etcd":                    m.Etcd.Path("server"),
	}
	images := []programImage{
		{reference: pauseImage, program: m.workload(), target: "pause", entrypoint: []string{"/pause"}},
		{reference: WorkloadImage, program: m.workload(), target: "workload", entrypoint: []string{"/workload"}},
	}
	for reference := range strings.FieldsSeq(string(listed)) {
		name, _, _ := strings.Cut(path.Base(reference), ":")
		if program, ok := programs[name]; ok {
			images = append(images, programImage{reference: reference, program: program, target: "usr/local/bin/" + name})
			delete(programs, name)
		}
	}
	if len(programs) > 0 {
		return nil, fmt.Errorf("ask kubeadm for its images: %d of those expected are not among\n%s", len(programs), listed)
	}
	return images, nil
}

// writeContext writes the folder that node/Dockerfile is built in, as a tar archive.
func writeContext(to io.Writer, m Materials, images []programImage) error {
	writer := tar.NewWriter(to)
	dockerfile, err := node.ReadFile("node/Dockerfile")
	if err != nil {
		return err
	}
	own, err := fs.Sub(node, "node/image")
	if err != nil {
		return err
	}
	kubernetes := m.Kubernetes
	err = errors.Join(
		writeFile(writer, "Dockerfile", dockerfile),
		writeFiles(writer, "kind", os.DirFS(m.NodeFiles)),
		writeFiles(writer, "image", own),
		// kind asks for the version of what is in the image.
		writeFile(writer, "image/kind/version", []byte(kubernetes.Version)),
		writePrograms(writer, "programs/usr/local/bin", m.Programs.Containerd, m.Programs.GVisor),
		writePrograms(writer, "programs/opt/cni/bin", m.Programs.CNI),
	)
	for _, program := range []string{"kubeadm", "kubectl", "kubelet"} {
		err = errors.Join(err, writeFrom(writer, "programs/usr/bin/"+program, kubernetes.Path(program)))
	}
	for _, image := range images {
		var archive bytes.Buffer
		if e := image.archive(&archive); e != nil {
			return errors.Join(err, e)
		}
		err = errors.Join(err, writeFile(writer, "image/kind/images/"+path.Base(strings.ReplaceAll(image.reference, ":", "-"))+".tar", archive.Bytes()))
	}
	return errors.Join(err, writer.Close())
}

// writePrograms adds every file of the folders.
func writePrograms(writer *tar.Writer, target string, dirs ...string) error {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := writeFrom(writer, path.Join(target, entry.Name()), filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeFrom(writer *tar.Writer, target, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return writeFile(writer, target, data)
}

// writeFiles adds a tree.
func writeFiles(writer *tar.Writer, target string, files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return writeFile(writer, path.Join(target, name), data)
	})
}

// writeFile adds a file. What is a program can be told by where it goes: module files carry no modes.
func writeFile(writer *tar.Writer, target string, data []byte) error {
	mode := int64(0o644)
	if path.Base(path.Dir(target)) == "bin" {
		mode = 0o755
	}
	if err := writer.WriteHeader(&tar.Header{Name: target, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := writer.Write(data)
	return err
}
