// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// azurePinned checks what is pinned where Azure's CNI has written an entry of each family.
//
// The one for IPv4 is none that lasts (NUD_PROBE), so the pin takes its place, with the same MAC; the one for IPv6 is permanent and stays the
// CNI's. The kernel may have asked for the first before the pin was there: that is what the state means.
func (r *rowRun) azurePinned(t *testing.T, gateway4 string) {
	t.Helper()
	r.pinned(t, map[string]truth{gateway4: {datapath.AzureMAC, "peer"}, datapath.AzureGateway6: {datapath.AzureMAC, "existing"}})
	r.skipped(t, map[string]string{})
	since := time.Now()
	r.reaches(t, node.Beyond()...)
	r.silent(t, datapath.AzureGateway6)
	if asked := r.askedSince(since, gateway4); len(asked) != 0 {
		t.Errorf("asked after the pin:\n%s", wire.Format(asked))
	}
}

func TestRowAzureTransparent(t *testing.T) {
	row(t, rowSpec{name: "azure-transparent", before: uplink}, func(t *testing.T, r *rowRun) {
		r.azurePinned(t, datapath.AzureGateway4)
	})
}

// Without neighpin the IPv4 entry is not permanent, and gVisor takes only the other.
func TestRowAzureTransparentControl(t *testing.T) {
	row(t, rowSpec{name: "azure-transparent", before: uplink, control: true}, func(t *testing.T, r *rowRun) {
		if used := r.used(t); len(used) != 1 || used[datapath.AzureGateway6] != datapath.AzureMAC {
			t.Errorf("the pod's stack has %v, want the entry for IPv6", used)
		}
		r.reaches(t, node.Beyond()...)
		if len(r.asked(datapath.AzureGateway4)) == 0 {
			t.Error("nobody asked for the IPv4 gateway")
		}
	})
}

// vnet makes the namespace of a virtual network, in which everything is recorded: the host's end of the pod is there.
func vnet(t *testing.T, r *rowRun) {
	t.Helper()
	const name = "az-vnet"
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "delete", name) })
	err := datapath.Inside(filepath.Join("/run/netns", name), func() error {
		c, err := wire.Open()
		if err != nil {
			return err
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		r.wire = c
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The host's end is in a third namespace. On the node a link with its number has another MAC: who looked for the other end there would
// pin that, and contest the CNI's entry.
func TestRowAzureTransparentVLAN(t *testing.T) {
	row(t, rowSpec{name: "azure-transparent-vlan", parameters: datapath.AzureVLAN{VNet: "az-vnet"}, before: vnet}, func(t *testing.T, r *rowRun) {
		r.azurePinned(t, datapath.AzureVLANGateway4)
	})
}

// Nobody answers for IPv4 in there: without neighpin gVisor does not get the CNI's entry, and the kernel gives it up as soon as it has
// tried it three times.
func TestRowAzureTransparentVLANControl(t *testing.T) {
	spec := rowSpec{name: "azure-transparent-vlan", parameters: datapath.AzureVLAN{VNet: "az-vnet"}, before: vnet, control: true}
	row(t, spec, func(t *testing.T, r *rowRun) {
		err := await.Within(t.Context(), patience, "the loss of the gateway", func() error {
			if r.try(t, node.Beyond()[0]) == nil {
				return errors.New(node.Beyond()[0] + " is reached although nobody answers for the gateway")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		r.reaches(t, node.Beyond()[1])
	})
}
