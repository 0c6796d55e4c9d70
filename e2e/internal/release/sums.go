// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// SumsFile holds the checksums of all other files, as sha256sum reads them.
const SumsFile = "SHA256SUMS"

// WriteSums writes the checksums of all files in dir, in the order of their names.
func WriteSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("add up the files: %w", err)
	}
	var sums strings.Builder
	for _, entry := range entries {
		if entry.Name() == SumsFile {
			continue
		}
		sum, err := sumOf(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, entry.Name())
	}
	if err := os.WriteFile(filepath.Join(dir, SumsFile), []byte(sums.String()), 0o644); err != nil {
		return fmt.Errorf("write the checksums: %w", err)
	}
	return nil
}

// Verify compares the files of a release with their checksums. A file without one is an error too.
func Verify(dir string) error {
	file, err := os.Open(filepath.Join(dir, SumsFile))
	if err != nil {
		return fmt.Errorf("verify the files: %w", err)
	}
	defer file.Close()
	known := map[string]bool{SumsFile: true}
	var errs []error
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok || !filepath.IsLocal(name) {
			return fmt.Errorf("verify the files: %s has the line %q", SumsFile, lines.Text())
		}
		known[name] = true
		sum, err := sumOf(filepath.Join(dir, name))
		if err == nil && sum != want {
			err = fmt.Errorf("verify %s: its SHA-256 is %s, want %s", name, sum, want)
		}
		errs = append(errs, err)
	}
	entries, err := os.ReadDir(dir)
	errs = append(errs, lines.Err(), err)
	for _, entry := range entries {
		if !known[entry.Name()] {
			errs = append(errs, fmt.Errorf("verify %s: %s does not have it", entry.Name(), SumsFile))
		}
	}
	return errors.Join(errs...)
}

// sumOf is the SHA-256 of a file, in hexadecimal digits.
func sumOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("add up a file: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("add up %s: %w", filepath.Base(path), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
