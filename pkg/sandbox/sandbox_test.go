// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/neighpin/neighpin/pkg/record"
)

func TestASandboxKeepsNothingOfTheMessageThatToldOfIt(t *testing.T) {
	message := strings.Repeat("id name uid /run/netns/cni-1 ", 100)
	told := record.Identity{ID: message[:2], Name: message[3:7], Namespace: "shop", UID: "", NetNSPath: message[12:28]}
	got := newSandbox(nil, told).id
	if got.ID != told.ID || got.Name != told.Name || got.UID != told.UID || got.NetNSPath != told.NetNSPath || got.Namespace != told.Namespace {
		t.Errorf("told %+v, kept %+v", told, got)
	}
	if unsafe.StringData(got.NetNSPath) == unsafe.StringData(told.NetNSPath) {
		t.Error("the path is still a part of the message")
	}
}
