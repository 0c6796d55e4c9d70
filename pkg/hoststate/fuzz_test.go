// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzRule: whatever a rule is, it is read or refused; and one that is understood and
// names an address says in its command which.
func FuzzRule(f *testing.F) {
	head := appendAttr(nil, unix.NFTA_RULE_TABLE, []byte("nat\x00"))
	head = appendAttr(head, unix.NFTA_RULE_CHAIN, []byte("PREROUTING\x00"))
	head = appendAttr(head, unix.NFTA_RULE_HANDLE, []byte{0, 0, 0, 0, 0, 0, 0, 7})
	for _, e := range []*native{
		(&native{}).to(podIP).sets(deadBytes).accept(),
		(&native{}).to(podIP).limit(),
		compat(unix.NFTA_MATCH_NAME, "match", "arp", slices.Concat(make([]byte, 16), []byte{10, 1, 0, 5, 255, 255, 255, 255}, make([]byte, 24), []byte{0x10, 0, 0, 0})),
		compat(unix.NFTA_MATCH_NAME, "match", "ip6", make([]byte, 80)),
		compat(unix.NFTA_TARGET_NAME, "target", "arpreply", append(slices.Clone(deadBytes), 0, 0, 0xfe, 0xff, 0xff, 0xff)),
	} {
		f.Add(appendAttr(slices.Clone(head), unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, e.b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRule(body)
		if err != nil {
			return
		}
		if r.handle == 0 || r.table == "" || r.chain == "" {
			t.Errorf("a rule that is nowhere: %+v", r)
		}
		for _, mac := range r.gives {
			if !mac.IsUnicast() {
				t.Errorf("gives %q, which is no station's", mac)
			}
		}
		_, _ = r.String(), r.restore(true)
	})
}

// compat is a match or target of ebtables.
func compat(nameOf uint16, expression, name string, info []byte) *native {
	// Name, revision and info are 1, 2 and 3 of both.
	a := appendAttr(nil, nameOf, append([]byte(name), 0))
	a = appendAttr(a, nameOf+1, be32(0))
	return (&native{}).expression(expression, appendAttr(a, nameOf+2, info))
}

// FuzzMessages: a datagram is taken apart or refused.
func FuzzMessages(f *testing.F) {
	var n netfilter
	f.Add(n.message(nil, subsystem|unix.NFT_MSG_NEWRULE, 0, unix.NFPROTO_BRIDGE, 0, appendAttr(nil, 1, []byte("nat\x00"))))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = messagesIn(b, func(_, _ uint16, body []byte) (bool, error) {
			_, err := attrs(body)
			return false, err
		})
	})
}
