// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// A pod gives its link as many names as it likes. It has its address all the same, and
// so have the links that are listed after it.
func TestLinksOfHundredsOfNamesClaimTheirAddresses(t *testing.T) {
	n := newNode(t)
	h, err := openHost()
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, names := range []int{0, 70, 200} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			pod := nstest.New(t)
			n := node{n.NS, t}
			name := fmt.Sprintf("veth%d", names)
			n.Veth(name, pod, "eth0")
			t.Cleanup(func() { _, _ = n.TryIP("link delete " + name) })
			pod.IP("link set eth0 address 02:00:00:00:07:07", "link add eth1 address 02:00:00:00:07:08 type veth peer name eth2")
			lines := make([]string, names)
			for i := range lines {
				lines[i] = fmt.Sprintf("link property add dev eth0 altname a%s%d", strings.Repeat("x", 120), i)
			}
			pod.IP(lines...)
			macs := []neighbor.HardwareAddr{"02:00:00:00:07:07", "02:00:00:00:07:08"}
			claims, err := h.claims(t.Context(), macs)
			for _, mac := range macs {
				if claims[mac] == "" {
					t.Errorf("nobody has %s: %v, %v", mac, claims, err)
				}
			}
		})
	}
}
