// SPDX-License-Identifier: Apache-2.0

// Package nsid looks at other network namespaces from outside, through the ids that the kernel gives them: which of
// them exist, and what happens to their neighbors, from their first moment on.
//
// The kernel gives the pod's namespace an id in the node's when the veth between them is announced, and takes it away when the
// namespace is destroyed: not when its file goes, but when nothing holds it any more, no process, no
// descriptor, no socket.
package nsid

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Of is the id that the calling thread's namespace has for the one at path.
func Of(path string) (int, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return 0, fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	id, err := netlink.GetNetNsIdByFd(int(ns))
	if err != nil {
		return 0, fmt.Errorf("ask for the id of namespace %s: %w", path, err)
	}
	if id < 0 {
		return 0, fmt.Errorf("ask for the id of namespace %s: it has none", path)
	}
	return id, nil
}

// Exists tells whether the namespace with that id is still there.
func Exists(id int) (bool, error) {
	ids, err := All()
	if err != nil {
		return false, err
	}
	return slices.Contains(ids, id), nil
}

// All are the ids of all living namespaces that have one.
func All() ([]int, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETNSID, unix.NLM_F_DUMP)
	request.AddData(&nl.RtGenMsg{RtGenmsg: unix.RtGenmsg{Family: unix.AF_UNSPEC}})
	answers, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNSID)
	if err != nil {
		return nil, fmt.Errorf("list namespace ids: %w", err)
	}
	var ids []int
	for _, answer := range answers {
		// rtgenmsg is one byte, padded to four.
		attributes, err := nl.ParseRouteAttr(answer[4:])
		if err != nil {
			return nil, fmt.Errorf("parse namespace ids: %w", err)
		}
		for _, attribute := range attributes {
			if attribute.Attr.Type == unix.NETNSA_NSID {
				ids = append(ids, int(int32(nativeUint32(attribute.Value))))
			}
		}
	}
	return ids, nil
}

func nativeUint32(data []byte) uint32 { return binary.NativeEndian.Uint32(data) }
