// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"fmt"
)

// binaryImage holds the binary that the product's Dockerfile takes instead of compiling one: the Go image, which its
// build stage starts from, is in a registry.
const binaryImage = "neighpin.io/e2e/binary:1"

// ProductImage builds the image of the repository's Dockerfile under that name, with the binary of this checkout.
func ProductImage(ctx context.Context, d *Docker, m Materials, reference, version string) error {
	binary := programImage{reference: binaryImage, program: m.Programs.Neighpin(), target: "neighpin"}
	var archive bytes.Buffer
	if err := binary.archive(&archive); err != nil {
		return err
	}
	if _, err := d.Output(ctx, &archive, "load"); err != nil {
		return fmt.Errorf("load the binary: %w", err)
	}
	return d.build(ctx, true, nil, "--build-arg", "BINARY="+binaryImage, "--build-arg", "VERSION="+version, "--tag", reference, m.Checkout)
}
