// SPDX-License-Identifier: Apache-2.0

package neighbor

import "net/netip"

// Skipped is a gateway that is not pinned.
type Skipped struct {
	Dst     netip.Addr `json:"dst,omitzero"`      // invalid when Reason is not about one gateway
	Dev     string     `json:"dev"`               // a name with odd bytes is quoted
	Reason  Reason     `json:"reason"`            // for machines
	Message string     `json:"message,omitempty"` // for people
}

// Reason is why a gateway is not pinned.
type Reason string

// No truth: the host knows no address for the gateway, or only part of what
// would make sure of it.
const (
	ReasonUnsupportedLink    Reason = "UnsupportedLink"    // the link is no veth or netkit
	ReasonUnsupportedMaster  Reason = "UnsupportedMaster"  // the other end belongs to something else than a Linux bridge or VRF
	ReasonRouterBeyondBridge Reason = "RouterBeyondBridge" // neither the bridge nor one link beside it holds the gateway's IP address
	ReasonBridgeVLAN         Reason = "BridgeVLAN"         // the bridge filters VLANs, and no holder of the gateway's IP address is surely on the port's
	ReasonPeerInSandbox      Reason = "PeerInSandbox"      // the other end is in the namespace itself
	ReasonPeerGone           Reason = "PeerGone"           // the other end could not be found
	ReasonPeerElsewhere      Reason = "PeerElsewhere"      // the other end is not in this process's namespace, and nobody saw it there before the pod ran
	ReasonUnowned            Reason = "Unowned"            // somebody's permanent entry, which nobody saw before the pod ran, is all there is
)

// Nothing to pin, or nothing that could be.
const (
	ReasonNoARP         Reason = "NoARP"         // the link does not resolve addresses (IFF_NOARP)
	ReasonZeroMAC       Reason = "ZeroMAC"       // the address there is no unicast Ethernet address
	ReasonIPv6Disabled  Reason = "IPv6Disabled"  // the link takes no entry in the IPv6 table
	ReasonLinkGone      Reason = "LinkGone"      // the route's link was removed meanwhile
	ReasonUnsafeName    Reason = "UnsafeName"    // the link's name is not printable ASCII and would not survive being written down
	ReasonContested     Reason = "Contested"     // somebody's permanent entry differs from what the host knows
	ReasonInvalidEntry  Reason = "InvalidEntry"  // somebody's permanent entry has no usable address
	ReasonLimitReached  Reason = "LimitReached"  // there are more gateways than the limit
	ReasonInvalidTarget Reason = "InvalidTarget" // the gateway is no unicast address
	ReasonPinFailed     Reason = "PinFailed"     // the kernel, or somebody's entry that came in between, refused the pin
)

// Learnable tells whether a probe on the wire could find the gateway's address
// where the host could not: something beyond the host's links answers for it.
func (r Reason) Learnable() bool {
	switch r {
	case ReasonUnsupportedLink, ReasonUnsupportedMaster, ReasonRouterBeyondBridge, ReasonBridgeVLAN:
		return true
	}
	return false
}

// NoTruth tells whether the sandbox has a gateway that it will have to ask for,
// because its address is not known or could not be pinned. It is false where
// there is nothing to pin: the link resolves no addresses (NoARP, ZeroMAC), takes
// no entry of the family (IPv6Disabled) or is gone (LinkGone), or the gateway is
// no station (InvalidTarget). A reason of another package counts as no truth.
func (r Reason) NoTruth() bool {
	switch r {
	case "", ReasonNoARP, ReasonZeroMAC, ReasonIPv6Disabled, ReasonLinkGone, ReasonInvalidTarget:
		return false
	}
	return true
}
