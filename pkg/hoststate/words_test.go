// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// only is the one rule of the host's, but for those of chains of somebody's own.
func (n node) only() rule {
	n.t.Helper()
	rules, err := n.netfilter().rules(n.t.Context())
	rules = slices.DeleteFunc(rules, func(r rule) bool { return r.chain == "ours" })
	if err != nil || len(rules) != 1 {
		n.t.Fatalf("rules: %v, %v; want one", rules, err)
	}
	return rules[0]
}

// What a rule of ebtables says is put back word by word, so whatever is understood of
// it is read back as the program wrote it; and only what is asked for by itself is an
// address that the rule is about.
func TestRulesOfEbtablesArePutBackWordByWord(t *testing.T) {
	n := newNode(t)
	const dnat = " -j dnat --to-dst " + dead + " --dnat-target "
	for line, names := range map[string][]string{
		"-p 0x806 --arp-op 2 --arp-htype 1 --arp-ptype 0x800 --arp-ip-dst 10.1.0.5 -j arpreply --arpreply-mac " + dead + " --arpreply-target DROP":  {podIP},
		"-p 0x806 ! --arp-op 2 --arp-ip-src 10.1.0.0/16 ! --arp-ip-dst 10.1.0.5 -j arpreply --arpreply-mac " + dead + " --arpreply-target CONTINUE": nil,
		"-p 0x800 --ip-src 10.1.0.0/20 --ip-dst 10.1.0.5 --ip-proto 17" + dnat + "ACCEPT":                                                           {podIP},
		"-p 0x86dd --ip6-src fd01::/64 --ip6-dst fd01::5 --ip6-proto 58" + dnat + "DROP":                                                            {"fd01::5"},
		"-p 0x86dd ! --ip6-dst fd01::5 ! --ip6-proto 58" + dnat + "CONTINUE":                                                                        nil,
		"-s 02:00:00:00:00:05 ! -d 02:00:00:00:00:06" + dnat + "RETURN":                                                                             nil,
		"-i veth+ -p 0x88cc" + dnat + "ACCEPT":                                                                                                      nil,
		"! -i veth5 ! -p 0x800" + dnat + "ACCEPT":                                                                                                   nil,
	} {
		n.ebtables("-t nat -A PREROUTING " + line)
		r := n.only()
		if got := r.String(); got != line || len(r.unknown) > 0 {
			t.Errorf("rule\n%s\nwas read as\n%s", line, got)
		}
		var want []netip.Addr
		for _, name := range names {
			want = append(want, netip.MustParseAddr(name))
		}
		if !slices.Equal(r.names, want) {
			t.Errorf("rule %s: about %v, want %v", line, r.names, want)
		}
		before := n.ruleDump()
		n.ebtables("-t nat -F")
		n.restore([]Find{{Restore: r.restore(true)}})
		if after := n.ruleDump(); after != before {
			t.Errorf("put back by\n%s\n%s\nwant\n%s", r.restore(true), after, before)
		}
		n.ebtables("-t nat -F")
	}
}

// A rule of which a word is not understood is found by its address, like any other, and never removed, whatever else it says.
func TestRulesWithOtherWordsAreKept(t *testing.T) {
	const to, dnat = "-p IPv4 --ip-dst " + podIP + " ", " -j dnat --to-dst " + dead
	n := newNode(t)
	_, addresses := n.pod("veth5", podIP)
	n.kept(addresses, 1, map[string]string{
		"a port":                     to + "--ip-proto 17 --ip-sport 53" + dnat,
		"a class of service":         to + "--ip-tos 0x10" + dnat,
		"a port, IPv6":               "-p IPv6 --ip6-dst fd01::5 --ip6-proto 6 --ip6-dport 53" + dnat,
		"a mask that is no prefix's": "-p IPv4 --ip-src 10.0.0.5/255.0.0.255 --ip-dst " + podIP + dnat,
		"a mask of MAC addresses":    to + "-s 02:00:00:00:00:05/ff:ff:ff:00:00:00" + dnat,
		"frames to all":              to + "-d Broadcast" + dnat,
		"a sender in ARP":            "-p ARP --arp-mac-src 02:00:00:00:00:05 --arp-ip-dst " + podIP + " -j arpreply --arpreply-mac " + dead,
		"gratuitous ARP":             "-p ARP --arp-gratuitous --arp-ip-dst " + podIP + " -j arpreply --arpreply-mac " + dead,
		"a kind of packet":           to + "--pkttype-type broadcast" + dnat,
		"a mark":                     to + "--mark 7" + dnat,
		"a rate":                     to + "--limit 1/s" + dnat,
	})
	// These are for no address of the pod's, or lead to no MAC address, as far as they are understood.
	n.kept(addresses, 0, map[string]string{
		"a set of addresses":            "--among-src 02:00:00:00:00:05=10.1.0.5" + dnat,
		"a VLAN":                        "-p 802_1Q --vlan-id 7" + dnat,
		"the redirection to the bridge": to + "-j redirect",
		"the setting of a mark":         to + "-j mark --mark-set 1",
		"a line in the log":             to + "-j log",
		"nobody's MAC address":          to + "-j dnat --to-dst ff:ff:ff:ff:ff:ff",
		"a chain of its own":            to + "-j ours",
	})
}

// kept expects of each rule, alone on the host, that so many finds are for the addresses, and that it stays.
func (n node) kept(addresses []Address, found int, lines map[string]string) {
	n.t.Helper()
	for name, line := range lines {
		if strings.HasSuffix(line, "-j ours") {
			n.ebtables("-t nat -N ours")
		}
		n.ebtables("-t nat -A PREROUTING " + line)
		if r := n.only(); len(r.unknown) == 0 || !strings.Contains(r.String(), "not understood") {
			n.t.Errorf("%s: understood as %s", name, r)
		}
		before := n.dump()
		finds := n.clean(addresses)
		if len(finds) != found {
			n.t.Errorf("%s: finds %+v, want %d", name, finds, found)
		}
		for _, f := range finds {
			if f.Removed || f.Keeps == "" || f.Restore != "" {
				n.t.Errorf("%s: %+v", name, f)
			}
		}
		if after := n.dump(); after != before {
			n.t.Errorf("%s: clean changed\n%s\nto\n%s", name, before, after)
		}
		n.ebtables("-t nat -F")
		if strings.HasSuffix(line, "-j ours") {
			n.ebtables("-t nat -X ours") // which would be there for the tests that follow
		}
	}
}

// meta loads what is known of a frame, and compares.
func (e *native) meta(key, op uint32, v []byte) *native {
	a := appendAttr(nil, unix.NFTA_META_DREG, be32(1))
	e.expression("meta", appendAttr(a, unix.NFTA_META_KEY, be32(key)))
	return e.compares(op, v)
}

func (e *native) compares(op uint32, v []byte) *native {
	a := appendAttr(nil, unix.NFTA_CMP_SREG, be32(1))
	a = appendAttr(a, unix.NFTA_CMP_OP, be32(op))
	return e.expression("cmp", appendAttr(a, unix.NFTA_CMP_DATA|unix.NLA_F_NESTED, data(v)))
}

// masks keeps some bits of what is loaded, and turns others.
func (e *native) masks(mask, xor []byte) *native {
	a := appendAttr(nil, unix.NFTA_BITWISE_SREG, be32(1))
	a = appendAttr(a, unix.NFTA_BITWISE_DREG, be32(1))
	a = appendAttr(a, unix.NFTA_BITWISE_LEN, be32(uint32(len(mask))))
	a = appendAttr(a, unix.NFTA_BITWISE_MASK|unix.NLA_F_NESTED, data(mask))
	return e.expression("bitwise", appendAttr(a, unix.NFTA_BITWISE_XOR|unix.NLA_F_NESTED, data(xor)))
}

// writes changes bytes of the frame.
func (e *native) writes(base, from uint32, v []byte) *native {
	a := appendAttr(nil, unix.NFTA_IMMEDIATE_DREG, be32(1))
	e.expression("immediate", appendAttr(a, unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, data(v)))
	a = appendAttr(nil, unix.NFTA_PAYLOAD_SREG, be32(1))
	a = appendAttr(a, unix.NFTA_PAYLOAD_BASE, be32(base))
	a = appendAttr(a, unix.NFTA_PAYLOAD_OFFSET, be32(from))
	return e.expression("payload", appendAttr(a, unix.NFTA_PAYLOAD_LEN, be32(uint32(len(v)))))
}

// mark is "meta mark set".
func (e *native) mark(v uint32) *native {
	a := appendAttr(nil, unix.NFTA_IMMEDIATE_DREG, be32(1))
	e.expression("immediate", appendAttr(a, unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, data(binary.NativeEndian.AppendUint32(nil, v))))
	a = appendAttr(nil, unix.NFTA_META_SREG, be32(1))
	return e.expression("meta", appendAttr(a, unix.NFTA_META_KEY, be32(unix.NFT_META_MARK)))
}

// comment is what nft keeps beside a rule: of type 0, and its length.
func (e *native) comment(v string) *native {
	e.userData = append([]byte{0, byte(len(v) + 1)}, v+"\x00"...)
	return e
}

// name is a link's, as a rule compares all of it.
func name(s string) []byte { return append([]byte(s), make([]byte, unix.IFNAMSIZ-len(s))...) }

// Rules of nft's own expressions, in words, as the kernel gives them back.
func TestNativeRulesInWords(t *testing.T) {
	const link, network, equal = unix.NFT_PAYLOAD_LL_HEADER, unix.NFT_PAYLOAD_NETWORK_HEADER, unix.NFT_CMP_EQ
	rule := func() *native { return &native{} }
	fromIP := func() *native { return rule().etherType(unix.ETH_P_IP).load(network, 12, 4) }
	arp := func() *native { return rule().etherType(unix.ETH_P_ARP).load(network, 6, 2) }
	for scenario, c := range map[string]struct {
		native *native
		want   string
	}{
		"a prefix":                        {fromIP().masks([]byte{255, 255, 240, 0}, make([]byte, 4)).equals([]byte{10, 1, 16, 0}), "ether type 0x800 ip saddr 10.1.16.0/20 accept"},
		"a mask that is no prefix's":      {fromIP().masks([]byte{255, 0, 0, 255}, make([]byte, 4)).equals([]byte{10, 0, 0, 5}), "ether type 0x800 accept (and not understood: a comparison of ip saddr)"},
		"bits that are turned":            {fromIP().masks([]byte{255, 255, 0, 0}, []byte{0, 0, 0, 1}).equals([]byte{10, 1, 0, 1}), "ether type 0x800 accept (and not understood: bits of a value, a comparison)"},
		"bits twice":                      {fromIP().masks([]byte{255, 0, 0, 0}, make([]byte, 4)).masks([]byte{255, 0, 0, 0}, make([]byte, 4)).equals([]byte{10, 0, 0, 0}), "ether type 0x800 accept (and not understood: bits of a value, a comparison)"},
		"a field of no protocol":          {rule().load(network, 12, 4).equals([]byte{10, 1, 0, 5}), "accept (and not understood: a comparison)"},
		"an ARP request of one station":   {arp().equals([]byte{0, 1}).load(network, 8, 6).equals(deadBytes), "ether type 0x806 arp operation 0x1 arp saddr ether 02:de:ad:00:00:01 accept"},
		"more than an operation":          {arp().compares(unix.NFT_CMP_GT, []byte{0, 1}), "ether type 0x806 accept (and not understood: a comparison)"},
		"a link":                          {rule().meta(unix.NFT_META_IIFNAME, equal, name("veth5")), `iifname '"veth5"' accept`},
		"links":                           {rule().meta(unix.NFT_META_IIFNAME, equal, []byte("veth")), `iifname '"veth*"' accept`},
		"all links but one":               {rule().meta(unix.NFT_META_IIFNAME, unix.NFT_CMP_NEQ, name("veth5")), `iifname != '"veth5"' accept`},
		"a link of a name to run":         {rule().meta(unix.NFT_META_IIFNAME, equal, name("a'; rm b")), "accept (and not understood: a comparison of iifname)"},
		"a mark":                          {rule().meta(unix.NFT_META_MARK, equal, []byte{7, 0, 0, 0}), "accept (and not understood: a comparison)"},
		"another sender":                  {rule().writes(link, 6, deadBytes), "ether saddr set 02:de:ad:00:00:01 accept"},
		"another type":                    {rule().writes(link, 12, []byte{8, 0}), "accept (and not understood: a change of the frame)"},
		"to all":                          {rule().writes(link, 0, []byte{255, 255, 255, 255, 255, 255}), "accept (and not understood: a change of the frame)"},
		"a mark that is set":              {rule().mark(7), "accept (and not understood: a change of what is known of the frame)"},
		"a comment":                       {rule().comment("left by an old CNI"), `accept comment '"left by an old CNI"'`},
		"a comment that ends its command": {rule().comment(`'; rm -r /tmp; '`), "accept (and not understood: a comment)"},
	} {
		t.Run(scenario, func(t *testing.T) {
			n := newNode(t)
			n.table(c.native.accept())
			if got := n.only().String(); got != c.want {
				t.Errorf("read as\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
