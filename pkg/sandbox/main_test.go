// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(victimEnv); ok {
		victim(text)
	}
	nstest.MainInside(m)
}
