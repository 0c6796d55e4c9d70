// SPDX-License-Identifier: Apache-2.0

package hoststate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Messages of nf_tables: include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h.
const (
	subsystem  = unix.NFNL_SUBSYS_NFTABLES << 8
	batchBegin = 0x10
	batchEnd   = 0x11
	batchGenID = 1 // NFNL_BATCH_GENID
	genID      = 1 // NFTA_GEN_ID

	headerLen   = unix.SizeofNlMsghdr
	nfHeaderLen = 4 // struct nfgenmsg: family, version, resource (big endian)

	// netfilterTimeout ends a wait for the kernel, which answers while it is asked.
	netfilterTimeout = 5 * time.Second
	// maxRules bounds what is read of all rules of the bridge family.
	maxRules = 100_000
)

var (
	errMalformed = errors.New("malformed netlink message")
	// errMoved says that somebody changed the rules while they were looked at.
	errMoved = errors.New("the rules changed meanwhile")
)

// netfilter is a socket of the netfilter family, connected to the kernel, so that
// no other process is heard.
type netfilter struct {
	fd  int
	seq uint32
	buf []byte
}

func openNetfilter() (*netfilter, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	n := &netfilter{fd: fd, buf: make([]byte, 1<<16)}
	wait := unix.NsecToTimeval(netfilterTimeout.Nanoseconds())
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up netfilter socket: %w", err), unix.Close(fd))
	}
	return n, nil
}

func (n *netfilter) Close() error { return unix.Close(n.fd) }

// message appends one message of the bridge family, or of none.
func (n *netfilter) message(b []byte, kind, flags int, family byte, resource uint16, attrs []byte) []byte {
	n.seq++
	b = binary.NativeEndian.AppendUint32(b, uint32(headerLen+nfHeaderLen+len(attrs)))
	b = binary.NativeEndian.AppendUint16(b, uint16(kind))
	b = binary.NativeEndian.AppendUint16(b, uint16(flags|unix.NLM_F_REQUEST))
	b = binary.NativeEndian.AppendUint32(b, n.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	return append(b, attrs...)
}

// appendAttr appends an attribute, padded.
func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// exchange sends messages and gives every answer to each, until that is done.
func (n *netfilter) exchange(ctx context.Context, messages []byte, each func(kind uint16, flags uint16, body []byte) (done bool, err error)) error {
	if err := unix.Send(n.fd, messages, 0); err != nil {
		return fmt.Errorf("ask netfilter: %w", err)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		size, _, err := unix.Recvfrom(n.fd, n.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("hear netfilter: %w", err)
		case size > len(n.buf):
			return fmt.Errorf("hear netfilter: %w: %d bytes at once", errMalformed, size)
		}
		done, err := messagesIn(n.buf[:size], each)
		if done || err != nil {
			return err
		}
	}
}

// messagesIn takes one datagram apart.
func messagesIn(b []byte, each func(kind uint16, flags uint16, body []byte) (bool, error)) (done bool, err error) {
	for len(b) >= headerLen {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return true, errMalformed
		}
		kind, flags, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), b[headerLen:size]
		if kind == unix.NLMSG_ERROR {
			if len(body) < 4 {
				return true, errMalformed
			}
			if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return true, unix.Errno(-code)
			}
		}
		if done, err := each(kind, flags, body); done || err != nil {
			return true, err
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// attrs takes attributes apart: the values by their kinds, without flags. Of two of
// one kind the last counts, as for the kernel.
func attrs(b []byte) (map[uint16][]byte, error) {
	found := make(map[uint16][]byte)
	err := eachAttr(b, func(kind uint16, value []byte) { found[kind] = value })
	return found, err
}

func eachAttr(b []byte, each func(kind uint16, value []byte)) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlAttr {
			return errMalformed
		}
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return errMalformed
		}
		each(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

// generation reads how often the rules have been changed.
func (n *netfilter) generation(ctx context.Context) (generation []byte, err error) {
	err = n.exchange(ctx, n.message(nil, subsystem|unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, 0, nil), func(kind, _ uint16, body []byte) (bool, error) {
		if kind != subsystem|unix.NFT_MSG_NEWGEN || len(body) < nfHeaderLen {
			return false, nil
		}
		a, err := attrs(body[nfHeaderLen:])
		if len(a[genID]) != 4 {
			err = errMalformed
		}
		generation = append([]byte(nil), a[genID]...)
		return true, err
	})
	return generation, err
}

// rules lists the rules of the bridge family, in order.
func (n *netfilter) rules(ctx context.Context) (list []rule, err error) {
	places := make(map[[2]string]int)
	request := n.message(nil, subsystem|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, unix.NFPROTO_BRIDGE, 0, nil)
	err = n.exchange(ctx, request, func(kind, flags uint16, body []byte) (bool, error) {
		switch {
		case flags&unix.NLM_F_DUMP_INTR != 0:
			return true, errMoved
		case kind == unix.NLMSG_DONE:
			return true, nil
		case kind != subsystem|unix.NFT_MSG_NEWRULE || len(body) < nfHeaderLen || body[0] != unix.NFPROTO_BRIDGE:
			return false, nil
		case len(list) >= maxRules:
			return true, fmt.Errorf("more than %d rules of the bridge family", maxRules)
		}
		r, err := parseRule(body[nfHeaderLen:])
		if err != nil {
			return true, err
		}
		chain := [2]string{r.table, r.chain}
		r.place = places[chain]
		places[chain]++
		list = append(list, r)
		return false, nil
	})
	return list, err
}

// remove removes rules, all or none, and only if nobody has changed any rule since
// generation was read.
func (n *netfilter) remove(ctx context.Context, generation []byte, rules []rule) error {
	b := n.message(nil, batchBegin, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, appendAttr(nil, batchGenID, generation))
	for _, r := range rules {
		a := appendAttr(nil, unix.NFTA_RULE_TABLE, append([]byte(r.table), 0))
		a = appendAttr(a, unix.NFTA_RULE_CHAIN, append([]byte(r.chain), 0))
		a = appendAttr(a, unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, r.handle))
		b = n.message(b, subsystem|unix.NFT_MSG_DELRULE, unix.NLM_F_ACK, unix.NFPROTO_BRIDGE, 0, a)
	}
	b = n.message(b, batchEnd, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	left := len(rules)
	err := n.exchange(ctx, b, func(kind, _ uint16, _ []byte) (bool, error) {
		if kind == unix.NLMSG_ERROR {
			left--
		}
		return left == 0, nil
	})
	if errors.Is(err, unix.ERESTART) || errors.Is(err, unix.ENOENT) {
		return errMoved
	}
	return err
}
