// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/neighbor"
)

// rule is one rule of the bridge family, as far as it is understood.
type rule struct {
	table, chain string
	handle       uint64
	place        int // in its chain, from 0

	names   []netip.Addr            // addresses that it asks for, each alone
	gives   []neighbor.HardwareAddr // link-layer addresses that it writes or answers
	takes   []neighbor.HardwareAddr // link-layer addresses whose frames it is for
	words   []string                // in the language of nft, or of ebtables
	legacy  bool                    // words are ebtables's
	unknown []string                // what is not understood
}

// parseRule reads the attributes of NFT_MSG_NEWRULE. What it does not know is in
// unknown; an error is a message that no kernel sends.
func parseRule(body []byte) (r rule, err error) {
	a, err := attrs(body)
	if err != nil {
		return r, err
	}
	r.table, r.chain = text(a[unix.NFTA_RULE_TABLE]), text(a[unix.NFTA_RULE_CHAIN])
	if handle := a[unix.NFTA_RULE_HANDLE]; len(handle) == 8 {
		r.handle = binary.BigEndian.Uint64(handle)
	}
	if r.table == "" || r.chain == "" || r.handle == 0 {
		return r, errMalformed
	}
	p := parser{rule: &r, registers: make(map[uint32]value)}
	var expressions [][]byte
	err = eachAttr(a[unix.NFTA_RULE_EXPRESSIONS], func(_ uint16, element []byte) {
		expressions = append(expressions, element)
		e, _ := attrs(element) // read again, and judged, below
		name := text(e[unix.NFTA_EXPR_NAME])
		r.legacy = r.legacy || name == "match" || name == "target"
	})
	if err != nil {
		return r, err
	}
	for _, element := range expressions {
		if err := p.expression(element); err != nil {
			return r, err
		}
	}
	p.comment(a[unix.NFTA_RULE_USERDATA])
	return r, nil
}

// text reads a string of the kernel's, which ends in a zero.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// String is the rule in its own language.
func (r rule) String() string {
	words := strings.Join(r.words, " ")
	if len(r.unknown) > 0 {
		words = strings.TrimSpace(words + " (and not understood: " + strings.Join(r.unknown, ", ") + ")")
	}
	return words
}

// restore is the command that puts the rule back where it was, when those before it
// are there. last: no rule that stays comes after it.
func (r rule) restore(last bool) string {
	words := strings.Join(r.words, " ")
	switch {
	case r.legacy:
		return fmt.Sprintf("ebtables-nft -t %s -I %s %d %s", shell(r.table), shell(r.chain), r.place+1, words)
	case last:
		return fmt.Sprintf("nft add rule bridge %s %s %s", shell(r.table), shell(r.chain), words)
	}
	return fmt.Sprintf("nft insert rule bridge %s %s index %d %s", shell(r.table), shell(r.chain), r.place, words)
}

// shell quotes a word, unless it is plain.
func shell(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:+-@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// parser follows the registers of one rule.
type parser struct {
	rule      *rule
	registers map[uint32]value // by their first word, see slot
	protocol  uint16           // Ethernet type that the rule is for, or 0
}

// value is what a register holds.
type value struct {
	what string // "payload", "meta", or "data"
	base uint32 // of a payload; key of a meta
	from uint32
	size uint32
	mask []byte
	data []byte
}

func (p *parser) unknownTo(what string) { p.rule.unknown = append(p.rule.unknown, what) }

func (p *parser) say(words ...string) { p.rule.words = append(p.rule.words, words...) }

// slot is the first 32 bits of a register: 1 to 4 are 16 bytes each, from 8 on
// they are words of the same memory (nf_tables_api.c, nft_parse_register).
func slot(register uint32) uint32 {
	if register >= 1 && register <= 4 {
		return (register - 1) * 4
	}
	return register - 8
}

// load notes what a register gets; what it shares words with is lost.
func (p *parser) load(register uint32, v value) {
	at := slot(register)
	end := at + (max(v.size, 1)+3)/4
	for other, old := range p.registers {
		if other < end && at < other+(max(old.size, 1)+3)/4 {
			delete(p.registers, other)
		}
	}
	p.registers[at] = v
}

func (p *parser) expression(element []byte) error {
	a, err := attrs(element)
	if err != nil {
		return err
	}
	name := text(a[unix.NFTA_EXPR_NAME])
	data, err := attrs(a[unix.NFTA_EXPR_DATA])
	if err != nil {
		p.unknownTo(strconv.Quote(name))
		return nil //nolint:nilerr // an expression that is made in another way
	}
	switch name {
	case "payload":
		p.payload(data)
	case "meta":
		p.meta(data)
	case "cmp":
		p.compare(data)
	case "bitwise":
		p.bitwise(data)
	case "immediate":
		p.immediate(data)
	case "match":
		p.match(text(data[unix.NFTA_MATCH_NAME]), number(data[unix.NFTA_MATCH_REV]), data[unix.NFTA_MATCH_INFO])
	case "target":
		p.target(text(data[unix.NFTA_TARGET_NAME]), number(data[unix.NFTA_TARGET_REV]), data[unix.NFTA_TARGET_INFO])
	case "counter":
		p.countWord()
	default:
		p.unknownTo(strconv.Quote(name))
	}
	return nil
}

// number reads 32 bits as nf_tables has them.
func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (p *parser) countWord() {
	if !p.rule.legacy { // ebtables counts always, and says nothing of it
		p.say("counter")
	}
}

func (p *parser) payload(a map[uint16][]byte) {
	v := value{what: "payload", base: number(a[unix.NFTA_PAYLOAD_BASE]), from: number(a[unix.NFTA_PAYLOAD_OFFSET]), size: number(a[unix.NFTA_PAYLOAD_LEN])}
	if source, ok := a[unix.NFTA_PAYLOAD_SREG]; ok {
		p.write(v, p.registers[slot(number(source))])
		return
	}
	p.load(number(a[unix.NFTA_PAYLOAD_DREG]), v)
}

// write is a rule's change of a frame.
func (p *parser) write(to, from value) {
	field := p.field(to)
	mac := hardware(from.data)
	if field.name == "" || field.kind != aMAC || mac == "" || p.rule.legacy {
		p.unknownTo("a change of the frame")
		return
	}
	p.rule.gives = append(p.rule.gives, mac)
	p.say(field.name, "set", mac.String())
}

func (p *parser) meta(a map[uint16][]byte) {
	if _, sets := a[unix.NFTA_META_SREG]; sets {
		p.unknownTo("a change of what is known of the frame")
		return
	}
	key := number(a[unix.NFTA_META_KEY])
	size := uint32(4)
	switch key {
	case unix.NFT_META_IIFNAME, unix.NFT_META_OIFNAME, unix.NFT_META_BRI_IIFNAME, unix.NFT_META_BRI_OIFNAME:
		size = unix.IFNAMSIZ
	case unix.NFT_META_PROTOCOL:
		size = 2
	}
	p.load(number(a[unix.NFTA_META_DREG]), value{what: "meta", base: key, size: size})
}

func (p *parser) bitwise(a map[uint16][]byte) {
	mask, err := attrs(a[unix.NFTA_BITWISE_MASK])
	xor, err2 := attrs(a[unix.NFTA_BITWISE_XOR])
	v, ok := p.registers[slot(number(a[unix.NFTA_BITWISE_SREG]))]
	bits := mask[unix.NFTA_DATA_VALUE]
	zero := bytes.Trim(xor[unix.NFTA_DATA_VALUE], "\x00")
	// NFTA_BITWISE_OP is 6; its zero is mask and xor.
	if err != nil || err2 != nil || !ok || number(a[6]) != 0 || len(zero) > 0 || len(bits) != int(v.size) || v.mask != nil {
		p.unknownTo("bits of a value")
		p.load(number(a[unix.NFTA_BITWISE_DREG]), value{})
		return
	}
	v.mask = slices.Clone(bits)
	p.load(number(a[unix.NFTA_BITWISE_DREG]), v)
}

func (p *parser) immediate(a map[uint16][]byte) {
	data, err := attrs(a[unix.NFTA_IMMEDIATE_DATA])
	if err != nil {
		p.unknownTo("a value")
		return
	}
	if verdict, ok := data[unix.NFTA_DATA_VERDICT]; ok {
		p.verdict(verdict)
		return
	}
	v := slices.Clone(data[unix.NFTA_DATA_VALUE])
	p.load(number(a[unix.NFTA_IMMEDIATE_DREG]), value{what: "data", size: uint32(len(v)), data: v})
}

func (p *parser) verdict(b []byte) {
	a, err := attrs(b)
	names := map[int32]string{0: "drop", 1: "accept", unix.NFT_RETURN: "return", unix.NFT_CONTINUE: "continue"}
	name := names[int32(number(a[unix.NFTA_VERDICT_CODE]))]
	if err != nil || name == "" || len(a[unix.NFTA_VERDICT_CODE]) != 4 {
		p.unknownTo("a jump")
		return
	}
	if p.rule.legacy {
		p.say("-j", strings.ToUpper(name))
		return
	}
	p.say(name)
}

// comment takes a rule's comment over; other user data is of no effect
// (libnftnl include/udata.h: a byte of type, one of length).
func (p *parser) comment(b []byte) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		kind, v := b[0], text(b[2:2+int(b[1])])
		b = b[2+int(b[1]):]
		if kind != 0 {
			continue
		}
		if strings.ContainsAny(v, "\"'\\\n") || p.rule.legacy {
			p.unknownTo("a comment")
			continue
		}
		p.say("comment", `'"`+v+`"'`)
	}
}

// hardware reads the address of one station, or none.
func hardware(b []byte) neighbor.HardwareAddr {
	if len(b) != 6 {
		return ""
	}
	mac, err := neighbor.ParseHardwareAddr(fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]))
	if err != nil {
		return ""
	}
	return mac
}
