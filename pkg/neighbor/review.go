// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"context"
	"errors"
)

// Review judges the entries that the caller knows by what the host says now,
// without reading routes: for a sandbox whose runtime has taken the addresses and
// routes. It changes nothing.
//
// Known names the entries. Neighbors has what is true now, with the same link and
// IP address as there and the link-layer address of now; Skipped has what has no
// truth any more. One of SourceExisting of which the host knows nothing stays as
// it is, and so does one of SourceLearned that Learned does not have.
func (t *Table) Review(ctx context.Context, q Query) (Resolution, error) {
	return Resolution{}, errors.ErrUnsupported
}
