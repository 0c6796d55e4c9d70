// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unprivileged runs f in a thread without CAP_NET_ADMIN, which dies with it.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err = errors.Join(err, unix.Capset(&header, &data[0])); err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("give up CAP_NET_ADMIN: %v", err)
	}
}

// Everybody may read entries, and rules only who may change them; what a host's link
// is, is asked of an entry only. Whoever may not is told, and nothing goes.
func TestWithoutRightsWhatWasNotReadIsToldAndNothingGoes(t *testing.T) {
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	n.ebtables("-t nat -A PREROUTING -p ARP --arp-ip-dst " + podIP + " -j arpreply --arpreply-mac " + dead)
	var report Report
	var err error
	unprivileged(t, func() { report, err = Clean(t.Context(), addresses) })
	if err != nil || len(report.Finds) != 0 || len(report.Unread) != 1 || !strings.Contains(report.Unread[0], "rules of the bridge family: operation not permitted") {
		t.Errorf("with a rule: %+v, %v; want that rules were not read", report, err)
	}
	n.IP("neighbor replace " + podIP + " lladdr " + dead + " dev cni0 nud permanent")
	before := n.dump()
	unprivileged(t, func() { report, err = Clean(t.Context(), addresses) })
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "clean the host's state: list the links") {
		t.Errorf("with an entry: %+v, %v; want what could not be asked", report, err)
	}
	if after := n.dump(); after != before {
		t.Errorf("changed\n%s\nto\n%s", before, after)
	}
}

func TestALookThatIsGivenUpChangesNothing(t *testing.T) {
	n := newNode(t)
	pod, addresses := n.pod("veth5", podIP)
	n.leave()
	before := n.dump()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := Look(ctx, addresses); !errors.Is(err, context.Canceled) || len(report.Finds) != 0 {
		t.Errorf("look: %+v, %v", report, err)
	}
	if _, err := Clean(ctx, addresses); !errors.Is(err, context.Canceled) {
		t.Errorf("clean: %v", err)
	}
	// The way back is set for a pod with a link of its own.
	n.IP("link set veth5 nomaster")
	if entries, err := SetReturnPath(ctx, n.addresses(pod), nil); !errors.Is(err, context.Canceled) || len(entries) != 0 {
		t.Errorf("return path: %+v, %v", entries, err)
	}
	if after := n.dump(); after != before {
		t.Errorf("changed\n%s\nto\n%s", before, after)
	}
}

// Link-local addresses are another on every link, so nothing on the host is theirs.
func TestAnAddressOfOneLinkIsNotLookedFor(t *testing.T) {
	n := newNode(t)
	pod, _ := n.pod("veth5", podIP)
	n.IP("neighbor replace fe80::5 lladdr " + dead + " dev cni0 nud permanent")
	pod.IP("address add fe80::5/64 dev eth0 nodad")
	var local []Address
	for _, a := range n.addresses(pod) {
		if a.Addr.IsLinkLocalUnicast() {
			local = append(local, a)
		}
	}
	if len(local) == 0 {
		t.Fatal("control: the pod has no link-local address")
	}
	if finds := n.look(append(local, Address{})); len(finds) != 0 {
		t.Errorf("found %v", finds)
	}
}

// What no kernel sends is refused as malformed, and a refusal is the kernel's own.
func TestMessagesThatNoKernelSends(t *testing.T) {
	message := func(size uint32, kind uint16, body ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint32(nil, size), kind)
		return append(append(b, make([]byte, 10)...), body...)
	}
	refused := message(20, unix.NLMSG_ERROR, binary.NativeEndian.AppendUint32(nil, ^uint32(unix.EBUSY)+1)...)
	for scenario, c := range map[string]struct {
		datagram []byte
		want     error
	}{
		"shorter than its header":           {message(8, 1), errMalformed},
		"longer than what came":             {message(1000, 1), errMalformed},
		"an error without its number":       {message(16, unix.NLMSG_ERROR), errMalformed},
		"a refusal":                         {refused, unix.EBUSY},
		"a refusal after a message":         {append(message(16, 1), refused...), unix.EBUSY},
		"attributes that are cut off":       {message(18, 1, 4, 0), errMalformed},
		"an attribute longer than its rest": {message(20, 1, 40, 0, 1, 0), errMalformed},
		"an attribute shorter than itself":  {message(20, 1, 3, 0, 1, 0), errMalformed},
		"nothing":                           {nil, nil},
	} {
		_, err := messagesIn(c.datagram, func(_, _ uint16, body []byte) (bool, error) {
			_, err := attrs(body)
			return false, err
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", scenario, err, c.want)
		}
	}
}

// A rule has a table, a chain and a handle, or it could not be removed.
func TestARuleThatIsNowhereIsRefused(t *testing.T) {
	whole := appendAttr(nil, unix.NFTA_RULE_TABLE, []byte("nat\x00"))
	whole = appendAttr(whole, unix.NFTA_RULE_CHAIN, []byte("PREROUTING\x00"))
	whole = appendAttr(whole, unix.NFTA_RULE_HANDLE, []byte{0, 0, 0, 0, 0, 0, 0, 7})
	if r, err := parseRule(whole); err != nil || r.handle != 7 || r.table != "nat" || r.chain != "PREROUTING" {
		t.Errorf("control: %+v, %v", r, err)
	}
	for scenario, body := range map[string][]byte{
		"no table":                      whole[8:],
		"no handle":                     whole[:len(whole)-12],
		"a handle of another size":      appendAttr(whole[:len(whole)-12:len(whole)-12], unix.NFTA_RULE_HANDLE, be32(7)),
		"cut off":                       whole[:len(whole)-1],
		"expressions that are cut off":  appendAttr(whole[:len(whole):len(whole)], unix.NFTA_RULE_EXPRESSIONS, []byte{9, 0}),
		"an expression that is cut off": appendAttr(whole[:len(whole):len(whole)], unix.NFTA_RULE_EXPRESSIONS, appendAttr(nil, unix.NFTA_LIST_ELEM, []byte{9, 0})),
	} {
		if r, err := parseRule(body); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", scenario, r, err)
		}
	}
}
