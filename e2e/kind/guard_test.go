// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// testGuard changes the node's end of the links of two pods: with the rights that the manifests give, neighpin hears of it,
// writes the one pod's entries again, and reports the copy that the other's runtime has.
func testGuard(t *testing.T, b *bed) {
	kernel := b.run(t, "guarded", "", map[string]string{"neighpin.io/pin": "true"})
	copied := b.run(t, "copied", "gvisor", nil)
	for _, p := range []pod{kernel, copied} {
		b.settled(t, p)
	}
	const mac = "02:00:00:00:12:34"
	for _, p := range []pod{kernel, copied} {
		b.node(t, fmt.Sprintf(`ip link set $(ip -oneline route get %s | sed 's/.* dev \([^ ]*\).*/\1/') address %s`, p.Status.PodIPs[0].IP, mac))
	}
	begin := time.Now()
	err := await.Within(b.ctx, 10*time.Second, "the pins to follow", func() error {
		if entries := b.permanent(t, kernel); strings.Count(entries, mac) != 2 {
			return fmt.Errorf("the entries are\n%s", entries)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("written again within %s", time.Since(begin).Round(time.Millisecond))
	// The status would say it with exit code 3, which ends kubectl exec without its output.
	err = await.Within(b.ctx, 10*time.Second, "the copy to be reported as stale", func() error {
		records := b.node(t, "cat /run/neighpin/sandboxes/*.json")
		if strings.Count(records, `"copied": "`) != 2 {
			return fmt.Errorf("the records are\n%s", records)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.kubectl(t, "delete", "pod", "guarded", "copied", "--wait")
	err = await.Within(b.ctx, 30*time.Second, "neighpin to forget the pods", func() error {
		_, err := b.status()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
