// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// setHostMAC gives the other end of the pod's link a MAC, as udev does some time after the CNI.
func setHostMAC(t *testing.T, pod *node.Pod, mac string) {
	t.Helper()
	link, err := netlink.LinkByName(pod.HostLink)
	if err != nil {
		t.Fatal(err)
	}
	address, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetHardwareAddr(link, address); err != nil {
		t.Fatal(err)
	}
}

// awaitLive waits until the live file, as the container sees it, has that MAC for its pod's gateways and nothing else.
func awaitLive(t *testing.T, container *node.Container, gateways []netip.Addr, mac string) {
	t.Helper()
	expected := map[string]string{}
	for _, gateway := range gateways {
		expected[gateway.String()] = mac
	}
	err := await.Within(t.Context(), patience, fmt.Sprintf("the live file in pod %s to have both gateways at %s", container.Pod.Name, mac), func() error {
		text, err := liveText(container)
		if err != nil {
			return err
		}
		a, err := parseAnnotation(text)
		if err != nil {
			return err
		}
		seen := map[string]string{}
		for _, n := range a.Neighbors {
			seen[n.Dst] = n.LLAddr
		}
		if lines := differences(seen, expected); len(lines) > 0 {
			return errors.New(disagree("gateways in it", lines))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The gateway gets another MAC while the container runs, and again while no daemon does.
func TestTheLiveFileFollowsTheTruth(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	pod := runPod(t, node.PodSpec{Handler: "runc", Annotations: asksForFile})
	container := runContainer(t, pod)
	mac, err := hostMAC(pod)
	if err != nil {
		t.Fatal(err)
	}
	awaitLive(t, container, gateways, mac)
	setHostMAC(t, pod, "0a:58:00:00:00:01")
	awaitLive(t, container, gateways, "0a:58:00:00:00:01")
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	setHostMAC(t, pod, "0a:58:00:00:00:02")
	startDaemon(t)
	awaitLive(t, container, gateways, "0a:58:00:00:00:02")
}

// The same where the pod's link is in a namespace that neighpin cannot see: what it knows of the other end is enough.
func TestTheLiveFileFollowsTheTruthOfALinkThatWasMovedAway(t *testing.T) {
	keepLogs(t)
	first := startDaemon(t)
	w := runWorker(t, "interior-live", t.TempDir())
	release, err := w.held(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mac, err := hostMAC(w.pod)
	if err != nil {
		t.Fatal(err)
	}
	awaitLive(t, w.container, interiorGateways, mac)
	setHostMAC(t, w.pod, "0a:58:00:00:00:03")
	awaitLive(t, w.container, interiorGateways, "0a:58:00:00:00:03")
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	setHostMAC(t, w.pod, "0a:58:00:00:00:04")
	startDaemon(t)
	awaitLive(t, w.container, interiorGateways, "0a:58:00:00:00:04")
	if err := release(); err != nil {
		t.Error(err)
	}
}
