// SPDX-License-Identifier: Apache-2.0

package neighbor

import "net/netip"

// Resolution is what Resolve found.
type Resolution struct {
	// Neighbors are the gateways whose address is known, pinned or not.
	Neighbors []Neighbor

	// Skipped are the gateways that are not to be pinned.
	Skipped []Skipped

	// Outdated are our own permanent entries that are not true any more, as they
	// are: Pin corrects those for which Neighbors has the truth, and the others
	// are to be released.
	Outdated []Neighbor

	// Unknown are the gateways among Skipped for which the host knows no address
	// but a probe could: their reasons are Learnable.
	Unknown []Ask

	// Basis are the numbers of the links outside the sandbox that the answer
	// rests on, as the namespace that they are in counts them, each once: other
	// ends, their masters, and what holds a gateway beside a bridge. A link that
	// was looked at in vain is among them. When one of them, or an address of
	// one, changes, the answer may be another.
	Basis []int

	// Sought are the gateways of which the answer rests on who outside holds their
	// IP address, each once: those beyond a bridge. An address of one that comes or
	// goes there may make the answer another.
	Sought []netip.Addr

	// Ends are the numbers of the other ends of the sandbox's links, by the names
	// of these. An other end that is not in the host's namespace is not listed.
	Ends map[string]int

	// HandedOver is true when a link is up but no address of global scope is
	// left, as gVisor leaves the namespace after it took the addresses into its
	// own network stack; nothing else is reported then, although IPv6 gateway
	// routes may still be there. A namespace that is still being set up looks
	// the same for a moment.
	HandedOver bool
}
