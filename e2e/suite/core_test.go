// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"flag"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// core are the tests that pass on every release of containerd, whatever way in it offers. The others run on
// the newest only: they look at the early path, or at what does not depend on containerd.
func core() []func(*testing.T) {
	return []func(*testing.T){
		TestTheReleaseIsTheOneAskedFor,
		TestPinnedByTheWayInThatTheReleaseOffers,
		// Pinned, and silent on the wire; with the control for it.
		TestControlGVisorAsksForItsGateways,
		TestTwentyGVisorPodsStartPinnedAndStaySilent,
		TestACNIThatSetsTheMACLast,
		TestACNIThatFailsHalfway,
		// Selection.
		TestOnlySelectedPodsAreTouched,
		TestHostNetworkIsANoOp,
		TestGVisorAsDefaultRuntimeIsSelected,
		// The annotation.
		TestEveryContainerOfAPodCarriesTheAnnotation,
		TestAForgedAnnotationIsOverwritten,
		TestHostilePodsAreServedLikeOthersAndBreakNoLog,
		TestOddWishesDoNotSelect,
		// The live file.
		TestContainersSeeTheLiveFileAndCannotChangeIt,
		TestTheLiveFileFollowsTheTruth,
		TestACounterInAnInteriorNamespaceGoesOnInAnotherPod,
		// Refusals.
		TestEnforceRefusesAPodWhoseGatewaysHaveNoTruth,
		TestEnforceStartsWhatIsPinnedAndWhatHasNothingToPin,
		TestEnforceRefusesAfterARestart,
		TestEnforceLeavesExcludedNamespacesAlone,
		TestConfigMapIsEditedWhileTheDaemonRuns,
		// Restarts.
		TestKilledBetweenSandboxAndContainer,
		TestContainerdRestartsUnderneath,
		TestStartedAfterThePods,
		TestASecondTakesOverUnderAStreamOfPods,
		// Lifecycle.
		TestControlAHeldNamespaceIsSeen,
		TestRemovedPodsLeaveNothing,
		TestPodsRemovedWhileNobodyWatched,
		// The OCI runtime wrapper, for which a shim is a shim.
		TestWrapperServesGVisorWithoutADaemon,
		TestWrapperServesRuncWithoutADaemon,
		TestWrapperRefusesUnderEnforce,
		// What an operator is told of the node and of its pods.
		TestListAndShowTellTheStoryOfRealPods,
		TestCheckFindsARealNodeGoodAndWarnsOfPodAnnotations,
		TestCheckSaysHowToTurnNRIOn,
	}
}

// selectTests makes a run on another release than the newest one of the core tests, unless -run says otherwise. Tests are
// left out this way and not by skipping, which would hide one that is skipped by mistake.
func selectTests(release string) {
	flag.Parse()
	run := flag.Lookup("test.run")
	if release == setup.Newest || run.Value.String() != "" {
		return
	}
	var names []string
	for _, test := range core() {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		names = append(names, name[strings.LastIndexByte(name, '.')+1:])
	}
	if err := run.Value.Set("^(" + strings.Join(names, "|") + ")$"); err != nil {
		panic(err) // names of functions are a valid expression
	}
}

// Without it a run of the wrong release would pass for one of the right.
func TestTheReleaseIsTheOneAskedFor(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	status, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimPrefix(status.NRI.RuntimeVersion, "v"); !strings.HasPrefix(got, bed.Release()+".") {
		t.Errorf("NRI says that the runtime is %s %s, want release %s", status.NRI.Runtime, status.NRI.RuntimeVersion, bed.Release())
	}
}

// containerd 2.x has a record of each sandbox with CNI's result, before it starts the sandbox and tells NRI. 1.7 has none and
// tells NRI before the sandbox starts.
func TestPinnedByTheWayInThatTheReleaseOffers(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	early := bed.Release() != "1.7"
	for range 2 {
		pod := runPod(t, node.PodSpec{Handler: "runsc"})
		if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
			t.Error(err)
		}
		sandbox, err := d.Sandbox(t.Context(), pod)
		if err != nil {
			t.Fatal(err)
		}
		began, err := pod.RunscBegan("start")
		if err != nil {
			t.Fatal(err)
		}
		if !sandbox.Timing.PinnedAt.Before(began) {
			t.Errorf("pinned at %s, but runsc began to start the sandbox at %s", sandbox.Timing.PinnedAt, began)
		}
		// Only a result that was read in the store has an age.
		if got := sandbox.Timing.ResultToPinMs > 0; got != early {
			t.Errorf("pinned by the early path is %t, want %t: %+v", got, early, sandbox.Timing)
		}
	}
	times := 1
	if early {
		times = 0
	}
	said(t, d, "containerd keeps no records of new sandboxes", times)
}
