// SPDX-License-Identifier: Apache-2.0

package neighbor

import "testing"

func TestWhatAReasonMeans(t *testing.T) {
	const learnable, noTruth, nothing = "learnable", "no truth", "nothing to pin"
	for reason, want := range map[Reason]string{
		ReasonUnsupportedLink: learnable, ReasonUnsupportedMaster: learnable, ReasonRouterBeyondBridge: learnable, ReasonBridgeVLAN: learnable,
		ReasonPeerInSandbox: noTruth, ReasonPeerGone: noTruth, ReasonPeerElsewhere: noTruth, ReasonUnowned: noTruth,
		ReasonContested: noTruth, ReasonInvalidEntry: noTruth, ReasonUnsafeName: noTruth, ReasonLimitReached: noTruth, "SomebodyElses": noTruth,
		ReasonNoARP: nothing, ReasonZeroMAC: nothing, ReasonIPv6Disabled: nothing, ReasonLinkGone: nothing, ReasonInvalidTarget: nothing, "": nothing,
	} {
		if got := reason.Learnable(); got != (want == learnable) {
			t.Errorf("%q learnable: %v", reason, got)
		}
		if got := reason.NoTruth(); got != (want != nothing) {
			t.Errorf("%q no truth: %v", reason, got)
		}
	}
}
