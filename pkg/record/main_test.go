// SPDX-License-Identifier: Apache-2.0

package record

import (
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestMain(m *testing.M) { nstest.MainInside(m) }
