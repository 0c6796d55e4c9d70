// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

const (
	dead  = "02:de:ad:00:00:01"
	podIP = "10.1.0.5"
)

// node is the host of a test with a bridge that has pods.
type node struct {
	*nstest.NS
	t *testing.T
}

// newNode makes the bridge; all goes with the test.
func newNode(t *testing.T) node {
	t.Helper()
	n := node{nstest.Own(t), t}
	n.IP("link add cni0 address 02:00:00:00:00:01 type bridge", "address add 10.1.0.1/24 dev cni0", "address add fd01::1/64 dev cni0 nodad", "link set cni0 up")
	t.Cleanup(func() {
		n.IP("link delete cni0")
		n.ebtables("-t nat -F")
	})
	return n
}

// pod makes a pod that is a port of the bridge, and says what its addresses are.
func (n node) pod(name, ip string) (*nstest.NS, []Address) {
	n.t.Helper()
	pod := nstest.New(n.t)
	n.Veth(name, pod, "eth0")
	n.t.Cleanup(func() { _, _ = n.TryIP("link delete " + name) })
	n.IP("link set " + name + " master cni0")
	pod.IP("address add "+ip+"/24 dev eth0", "address add fd01::5/64 dev eth0 nodad")
	return pod, n.addresses(pod)
}

func (n node) addresses(pod *nstest.NS) []Address {
	n.t.Helper()
	table, err := neighbor.Open(pod.NS)
	if err != nil {
		n.t.Fatal(err)
	}
	defer table.Close()
	addresses, err := table.Addresses(n.t.Context(), 64)
	if err != nil {
		n.t.Fatal(err)
	}
	return addresses
}

func (n node) ebtables(lines ...string) {
	n.t.Helper()
	for _, line := range lines {
		if out, err := n.Run("ebtables-nft", strings.Fields(line)...); err != nil {
			n.t.Fatalf("ebtables-nft %s: %v\n%s", line, err, out)
		}
	}
}

// dump is all that the host has of what could be touched.
func (n node) dump() string {
	n.t.Helper()
	out := n.Output("-4", "neighbor", "show", "nud", "permanent") + n.Output("-6", "neighbor", "show", "nud", "permanent")
	return out + n.ruleDump()
}

func (n node) ruleDump() string {
	n.t.Helper()
	var b strings.Builder
	filter := n.netfilter()
	rules, err := filter.rules(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range rules {
		fmt.Fprintln(&b, r.table, r.chain, r.place, r)
	}
	return b.String()
}

func (n node) netfilter() *netfilter {
	n.t.Helper()
	filter, err := openNetfilter()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = filter.Close() })
	return filter
}

func (n node) look(addresses []Address) []Find {
	n.t.Helper()
	report, err := Look(n.t.Context(), addresses)
	if err != nil {
		n.t.Fatal(err)
	}
	if len(report.Unread) > 0 {
		n.t.Errorf("not read: %q", report.Unread)
	}
	return report.Finds
}

func (n node) clean(addresses []Address) []Find {
	n.t.Helper()
	report, err := Clean(n.t.Context(), addresses)
	if err != nil {
		n.t.Fatal(err)
	}
	return report.Finds
}

// restore runs what puts the finds back.
func (n node) restore(finds []Find) {
	n.t.Helper()
	for _, f := range finds {
		if out, err := n.Run("sh", "-c", f.Restore); err != nil {
			n.t.Fatalf("%s: %v\n%s", f.Restore, err, out)
		}
	}
}

// native builds rules of nft, which the tests do without: its own expressions, in
// the kernel's own form.
type native struct{ b, userData []byte }

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func (e *native) expression(name string, data []byte) *native {
	a := appendAttr(nil, unix.NFTA_EXPR_NAME, append([]byte(name), 0))
	a = appendAttr(a, unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, data)
	e.b = appendAttr(e.b, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, a)
	return e
}

func (e *native) load(base, from, size uint32) *native {
	a := appendAttr(nil, unix.NFTA_PAYLOAD_DREG, be32(1))
	a = appendAttr(a, unix.NFTA_PAYLOAD_BASE, be32(base))
	a = appendAttr(a, unix.NFTA_PAYLOAD_OFFSET, be32(from))
	return e.expression("payload", appendAttr(a, unix.NFTA_PAYLOAD_LEN, be32(size)))
}

func data(v []byte) []byte { return appendAttr(nil, unix.NFTA_DATA_VALUE, v) }

func (e *native) equals(v []byte) *native {
	a := appendAttr(nil, unix.NFTA_CMP_SREG, be32(1))
	a = appendAttr(a, unix.NFTA_CMP_OP, be32(unix.NFT_CMP_EQ))
	return e.expression("cmp", appendAttr(a, unix.NFTA_CMP_DATA|unix.NLA_F_NESTED, data(v)))
}

func (e *native) etherType(v uint16) *native {
	return e.load(unix.NFT_PAYLOAD_LL_HEADER, 12, 2).equals(binary.BigEndian.AppendUint16(nil, v))
}

// to is "ip daddr".
func (e *native) to(ip string) *native {
	return e.etherType(unix.ETH_P_IP).load(unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4).equals(netip.MustParseAddr(ip).AsSlice())
}

// limit is a word that the parser does not know.
func (e *native) limit() *native {
	a := appendAttr(nil, unix.NFTA_LIMIT_RATE, binary.BigEndian.AppendUint64(nil, 1000))
	return e.expression("limit", appendAttr(a, unix.NFTA_LIMIT_UNIT, binary.BigEndian.AppendUint64(nil, 1)))
}

// sets is "ether daddr set".
func (e *native) sets(mac []byte) *native {
	a := appendAttr(nil, unix.NFTA_IMMEDIATE_DREG, be32(1))
	e.expression("immediate", appendAttr(a, unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, data(mac)))
	a = appendAttr(nil, unix.NFTA_PAYLOAD_SREG, be32(1))
	a = appendAttr(a, unix.NFTA_PAYLOAD_BASE, be32(unix.NFT_PAYLOAD_LL_HEADER))
	a = appendAttr(a, unix.NFTA_PAYLOAD_OFFSET, be32(0))
	return e.expression("payload", appendAttr(a, unix.NFTA_PAYLOAD_LEN, be32(6)))
}

func (e *native) accept() *native {
	verdict := appendAttr(nil, unix.NFTA_DATA_VERDICT|unix.NLA_F_NESTED, appendAttr(nil, unix.NFTA_VERDICT_CODE, be32(1)))
	a := appendAttr(nil, unix.NFTA_IMMEDIATE_DREG, be32(0))
	return e.expression("immediate", appendAttr(a, unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, verdict))
}

var deadBytes = []byte{2, 0xde, 0xad, 0, 0, 1}

// table makes a table of a test's own with one chain and rules in it.
func (n node) table(rules ...*native) {
	n.t.Helper()
	f := n.netfilter()
	name, chain := append([]byte("leftover"), 0), append([]byte("pods"), 0)
	message := func(b []byte, kind, flags int, a []byte) []byte {
		return f.message(b, subsystem|kind, flags, unix.NFPROTO_BRIDGE, 0, a)
	}
	b := f.message(nil, batchBegin, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	b = message(b, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, appendAttr(nil, unix.NFTA_TABLE_NAME, name))
	hook := appendAttr(appendAttr(nil, unix.NFTA_HOOK_HOOKNUM, be32(unix.NF_INET_PRE_ROUTING)), unix.NFTA_HOOK_PRIORITY, be32(100))
	a := appendAttr(appendAttr(nil, unix.NFTA_CHAIN_TABLE, name), unix.NFTA_CHAIN_NAME, chain)
	a = appendAttr(appendAttr(a, unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, hook), unix.NFTA_CHAIN_TYPE, append([]byte("filter"), 0))
	b = message(b, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, a)
	for _, r := range rules {
		a := appendAttr(appendAttr(nil, unix.NFTA_RULE_TABLE, name), unix.NFTA_RULE_CHAIN, chain)
		a = appendAttr(a, unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, r.b)
		if r.userData != nil {
			a = appendAttr(a, unix.NFTA_RULE_USERDATA, r.userData)
		}
		b = message(b, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK, a)
	}
	n.batch(f, f.message(b, batchEnd, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil), len(rules))
	n.t.Cleanup(func() {
		b := f.message(nil, batchBegin, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
		b = message(b, unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK, appendAttr(nil, unix.NFTA_TABLE_NAME, name))
		_ = unix.Send(f.fd, f.message(b, batchEnd, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil), 0) // answered when it is done
	})
}

func (n node) batch(f *netfilter, b []byte, acks int) {
	n.t.Helper()
	err := f.exchange(n.t.Context(), b, func(kind, _ uint16, _ []byte) (bool, error) {
		if kind == unix.NLMSG_ERROR {
			acks--
		}
		return acks == 0, nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}
