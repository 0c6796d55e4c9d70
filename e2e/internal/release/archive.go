// SPDX-License-Identifier: Apache-2.0

package release

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/product"
)

// writeArchive writes the files as a compressed archive that unpacks into one folder. Nothing in it tells who made it, or when.
func writeArchive(to io.Writer, files fs.FS, folder string, date time.Time) error {
	compressed, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return errors.Join(product.WriteTar(compressed, files, folder, date), compressed.Close())
}
