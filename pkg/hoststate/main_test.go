// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

// The tests play the host in a namespace of their own.
func TestMain(m *testing.M) { nstest.MainInside(m) }
