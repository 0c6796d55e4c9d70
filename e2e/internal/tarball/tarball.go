// SPDX-License-Identifier: Apache-2.0

// Package tarball reads small archives whole.
package tarball

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
)

// Entry is one entry of an archive.
type Entry struct {
	Header *tar.Header
	Data   []byte
}

// Read returns the entries of an archive in their order.
func Read(r io.Reader) ([]Entry, error) {
	var entries []Entry
	for reader := tar.NewReader(r); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		data, err := io.ReadAll(reader)
		if err != nil {
			return nil, fmt.Errorf("read %s of the archive: %w", header.Name, err)
		}
		entries = append(entries, Entry{header, data})
	}
}
