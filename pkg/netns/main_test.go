// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/netns"
)

// openEnv makes the test's program open a namespace and tell what came of it,
// instead of running tests.
const openEnv = "NEIGHPIN_TEST_OPEN"

func TestMain(m *testing.M) {
	path, ok := os.LookupEnv(openEnv)
	if !ok {
		nstest.Main(m)
	}
	host, err := netns.NewHost()
	if errors.Is(err, netns.ErrNoCookie) {
		_, err = netns.Open(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err, "- of that kind:", errors.Is(err, netns.ErrNoCookie))
		os.Exit(3)
	}
	ns, err := host.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "opened, cookie", ns.Cookie())
	os.Exit(0)
}
