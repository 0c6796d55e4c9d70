// SPDX-License-Identifier: Apache-2.0

package events

import (
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }
