// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/selection"
)

// maxConfig bounds a config.json, in bytes. Usually it has some ten thousand; a
// pod may have annotations of 256 KiB.
const maxConfig = 16 << 20

// spec is the part of the runtime's configuration (config.json) that matters
// here.
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		Namespaces []struct {
			Type string `json:"type"`
			Path string `json:"path"`
		} `json:"namespaces"`
	} `json:"linux"`
}

// bundle is a config.json that was read.
type bundle struct {
	spec
	path string // of the file itself, not of a link to it
	data []byte
}

// readBundle reads the configuration in a bundle's folder; an empty one is the
// working directory.
func readBundle(dir string) (*bundle, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	b := &bundle{path: path}
	if b.data, err = readBounded(path); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if err := json.Unmarshal(b.data, &b.spec); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return b, nil
}

// readBounded reads a regular file of bounded size.
func readBounded(path string) ([]byte, error) {
	// O_NONBLOCK, because a FIFO's open would wait for a writer for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > maxConfig:
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxConfig)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// network is the container's network namespace by its configuration.
type network int

const (
	networkHost  network = iota // it uses the caller's
	networkMade                 // the runtime makes one
	networkGiven                // it joins the one at a path
)

var errTwoNetworks = errors.New("two network namespaces are named")

// network tells what the container's namespace is, and its path if it is given.
func (s *spec) network() (kind network, path string, err error) {
	for _, namespace := range s.Linux.Namespaces {
		switch {
		case namespace.Type != "network":
		case kind != networkHost:
			return kind, path, errTwoNetworks
		case namespace.Path == "":
			kind = networkMade
		default:
			kind, path = networkGiven, namespace.Path
		}
	}
	return kind, path, nil
}

// The annotations by which engines tell containers from sandboxes. Each engine
// sets its own after those that a pod may bring (containerd
// internal/cri/server/container_create.go, CRI-O internal/factory/container,
// whose names podman uses as well), but leaves a pod the other's.
const (
	containerdType    = "io.kubernetes.cri.container-type"
	containerdSandbox = "io.kubernetes.cri.sandbox-id"
	crioType          = "io.kubernetes.cri-o.ContainerType"
	crioSandbox       = "io.kubernetes.cri-o.SandboxID"
	typeContainer     = "container"

	podName      = "io.kubernetes.cri.sandbox-name"
	podNamespace = "io.kubernetes.cri.sandbox-namespace"
	podUID       = "io.kubernetes.cri.sandbox-uid"
	podHandler   = "io.containerd.cri.runtime-handler"

	crioNamespace = "io.kubernetes.cri-o.Namespace"
)

// role says what a container is to the namespace that it names.
type role int

const (
	// roleOwn: the namespace is its own, or its engine tells nothing.
	roleOwn role = iota
	// roleJoins: it joins the namespace of a sandbox that was created before.
	roleJoins
	// roleMayJoin: it belongs to a sandbox that may have no container of its own,
	// which CRI-O drops by default (drop_infra_ctr).
	roleMayJoin
)

// managed tells whose keys there are: an engine's that lets pods write
// annotations.
func (s *spec) managed() (byContainerd, byCRIO bool) {
	_, byContainerd = s.Annotations[containerdType]
	_, byCRIO = s.Annotations[crioType]
	return byContainerd, byCRIO
}

// excluded tells whether the container is of a Kubernetes namespace that one of the
// globs names. It goes by the engine's own key, and by none where it is not sure
// which engine's that is: a pod must not get around its pins by writing the other.
func (s *spec) excluded(globs []string) bool {
	var namespace string
	switch byContainerd, byCRIO := s.managed(); {
	case byContainerd && !byCRIO:
		namespace = s.word(podNamespace)
	case byCRIO && !byContainerd:
		namespace = s.word(crioNamespace)
	}
	return namespace != "" && selection.Matches(globs, namespace)
}

// role also returns the sandbox's id, empty where the engine names none.
func (s *spec) role() (is role, sandbox string) {
	byContainerd, byCRIO := s.managed()
	switch {
	case byContainerd && byCRIO:
		// One of them is the pod's word, which must not keep it from being pinned.
		return roleOwn, ""
	case s.Annotations[containerdType] == typeContainer:
		return roleJoins, s.Annotations[containerdSandbox]
	case s.Annotations[crioType] == typeContainer:
		return roleMayJoin, s.Annotations[crioSandbox]
	}
	return roleOwn, ""
}

// word is the value of an annotation that is a plain name, empty for any other.
func (s *spec) word(key string) string {
	if value := s.Annotations[key]; plain(value) {
		return value
	}
	return ""
}
