// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// namePrefix is what the name of an installed wrapper begins with when the rest
// is the real runtime's name.
const namePrefix = "neighpin-"

// usualPath is where a runtime is looked for when the caller gives no PATH, as
// podman does for some commands (libpod/oci_conmon_common.go,
// UpdateContainerStatus).
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// self leads to the program that runs.
const self = "/proc/self/exe"

var errItself = errors.New("that is the wrapper itself")

// runtime is the path of the real runtime.
func (o Options) runtime(env []string) (string, error) {
	name, configured := o.Runtimes[o.Name]
	if !configured {
		rest, found := strings.CutPrefix(o.Name, namePrefix)
		if !found || rest == "" {
			return "", fmt.Errorf("find real runtime of %q: no entry in runtimes has that name, nor is it %sNAME; for neighpin's own commands the binary has to be called neighpin", o.Name, namePrefix)
		}
		name = rest
	}
	path, err := lookUp(name, env)
	if err != nil {
		return "", fmt.Errorf("find real runtime %q of %q: %w", name, o.Name, err)
	}
	return path, nil
}

// lookUp finds a program. One that is named by its path must not be this one; in
// PATH this one is passed over.
func lookUp(name string, env []string) (string, error) {
	own, err := os.Stat(self)
	if err != nil {
		return "", fmt.Errorf("look at own program: %w", err)
	}
	if filepath.IsAbs(name) {
		return name, fit(name, own)
	}
	if strings.ContainsRune(name, '/') {
		return "", errors.New("neither an absolute path nor a name")
	}
	err = fs.ErrNotExist
	for _, dir := range filepath.SplitList(searchPath(env)) {
		if !filepath.IsAbs(dir) {
			continue // the working directory is the caller's, not the operator's
		}
		path := filepath.Join(dir, name)
		fault := fit(path, own)
		if fault == nil {
			return path, nil
		}
		if !errors.Is(fault, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", path, fault)
		}
	}
	return "", fmt.Errorf("look in PATH: %w", err)
}

func searchPath(env []string) string {
	for _, entry := range env {
		if path, found := strings.CutPrefix(entry, "PATH="); found && path != "" {
			return path
		}
	}
	return usualPath
}

// fit tells why the file at path cannot be the real runtime.
func fit(path string, own fs.FileInfo) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return errors.New("not an executable file")
	case os.SameFile(info, own):
		return errItself
	case info.Size() != own.Size():
		return nil
	}
	// A copy of it would call itself for ever, too.
	same, err := equal(path, self)
	if err == nil && same {
		err = errItself
	}
	return err
}

// equal compares two files of the same size.
func equal(a, b string) (bool, error) {
	files := make([]*os.File, 2)
	for i, path := range []string{a, b} {
		file, err := os.Open(path)
		if err != nil {
			return false, err
		}
		defer file.Close()
		files[i] = file
	}
	const piece = 64 << 10
	left, right := make([]byte, piece), make([]byte, piece)
	for {
		n, err := io.ReadFull(files[0], left)
		m, otherErr := io.ReadFull(files[1], right)
		if !bytes.Equal(left[:n], right[:m]) {
			return false, nil
		}
		ended := []error{io.EOF, io.ErrUnexpectedEOF}
		if err != nil || otherErr != nil {
			if slices.Contains(ended, err) && slices.Contains(ended, otherErr) {
				return true, nil
			}
			return false, errors.Join(err, otherErr)
		}
	}
}
