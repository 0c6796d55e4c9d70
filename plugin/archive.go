// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxArchive bounds what is put into one archive, in bytes before compression.
const maxArchive = 64 << 20

// archive is a tar.gz that goes on without what cannot be had: what failed is told
// in a file of its own.
type archive struct {
	tar    *tar.Writer
	gzip   *gzip.Writer
	at     time.Time
	folder string
	left   int
	failed []string
	err    error // of writing; nothing helps then
}

func newArchive(w io.Writer, folder string, at time.Time) *archive {
	zip := gzip.NewWriter(w)
	return &archive{tar: tar.NewWriter(zip), gzip: zip, at: at, folder: folder, left: maxArchive}
}

// add puts a file in, or notes why there is none.
func (a *archive) add(name string, data []byte, err error) {
	if err != nil {
		a.failed = append(a.failed, fmt.Sprintf("%s: %v", name, err))
	}
	if len(data) > a.left {
		a.failed = append(a.failed, fmt.Sprintf("%s: left out, since the archive would become larger than %d MiB", name, maxArchive>>20))
		return
	}
	if len(data) == 0 || a.err != nil {
		return
	}
	a.left -= len(data)
	header := &tar.Header{Name: a.folder + "/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: a.at, Typeflag: tar.TypeReg}
	if a.err = a.tar.WriteHeader(header); a.err == nil {
		_, a.err = a.tar.Write(data)
	}
}

// close ends the archive with the list of what failed.
func (a *archive) close() error {
	a.left = maxArchive
	text := "nothing: everything could be collected\n"
	if len(a.failed) > 0 {
		text = strings.Join(a.failed, "\n") + "\n"
	}
	a.add("not-collected.txt", []byte(text), nil)
	return errors.Join(a.err, a.tar.Close(), a.gzip.Close())
}
