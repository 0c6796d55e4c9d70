// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/descriptors"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

const (
	annotationKey = "io.neighpin.neighbors"
	pinAnnotation = "neighpin.io/pin"
)

var gateways = []netip.Addr{node.Gateway4, node.Gateway6}

// startDaemon starts neighpin, waits until it is ready and stops it at the end of the test.
func startDaemon(t *testing.T, args ...string) *node.Daemon {
	t.Helper()
	d := launch(t, node.DaemonOptions{Args: args})
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// launch starts neighpin without waiting for it, and at the end of the test, when its pods are gone, looks for descriptors
// that it has left open and stops it.
func launch(t *testing.T, options node.DaemonOptions) *node.Daemon {
	t.Helper()
	d, err := bed.StartDaemon(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.Running() != nil {
			return // the test ended it
		}
		if err := closed(context.Background(), d); err != nil {
			t.Error(err)
		}
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// closed waits until a daemon whose pods are gone holds no namespace but its own and no more sockets than its own: status, NRI,
// containerd, the watch on the namespace folder, and a few for whoever just asks.
func closed(ctx context.Context, d *node.Daemon) error {
	const mostSockets = 6
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", d.PID()))
	if err != nil {
		return fmt.Errorf("find the daemon's own namespace: %w", err)
	}
	return await.Within(ctx, patience, "the daemon's descriptors to be closed", func() error {
		open, err := descriptors.Open(strconv.Itoa(d.PID()))
		if err != nil {
			return err
		}
		sockets := 0
		for _, target := range open {
			if strings.HasPrefix(target, "net:[") && target != home || strings.Contains(target, "/netns/") {
				return fmt.Errorf("it holds a namespace: %v", open)
			}
			if strings.HasPrefix(target, "socket:[") {
				sockets++
			}
		}
		if sockets > mostSockets {
			return fmt.Errorf("it has %d sockets, want at most %d: %v", sockets, mostSockets, open)
		}
		return nil
	})
}

// annotation is the schema of docs/annotation.md as a runtime's author would write it down.
type annotation struct {
	Version    int       `json:"version"`
	Cookie     uint64    `json:"cookie"`
	CapturedAt time.Time `json:"capturedAt"`
	Neighbors  []struct {
		Dst    string   `json:"dst"`
		Dev    string   `json:"dev"`
		LLAddr string   `json:"lladdr"`
		State  []string `json:"state"`
		Source string   `json:"source"`
	} `json:"neighbors"`
}

func parseAnnotation(text string) (annotation, error) {
	var a annotation
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a); err != nil {
		return annotation{}, fmt.Errorf("parse annotation %q: %w", text, err)
	}
	return a, nil
}

// hostMAC is the truth: the MAC of the pod's veth on the node's side.
func hostMAC(pod *node.Pod) (string, error) {
	link, err := net.InterfaceByName(pod.HostLink)
	if err != nil {
		return "", fmt.Errorf("find the host's end %q of pod %s: %w", pod.HostLink, pod.Name, err)
	}
	return link.HardwareAddr.String(), nil
}

// told is a neighpin that can be asked, whoever started it.
type told interface {
	Sandbox(ctx context.Context, pod *node.Pod) (node.Sandbox, error)
}

// started waits until the daemon's record of the pod says that the sandbox has started and how the pins did.
func started(ctx context.Context, d told, pod *node.Pod) (node.Sandbox, error) {
	var sandbox node.Sandbox
	err := await.Within(ctx, patience, "the verdict on pod "+pod.Name, func() error {
		var err error
		if sandbox, err = d.Sandbox(ctx, pod); err != nil {
			return err
		}
		if sandbox.Phase != "started" || sandbox.Timing.Verdict == "pending" {
			return fmt.Errorf("phase %s, verdict %s", sandbox.Phase, sandbox.Timing.Verdict)
		}
		return nil
	})
	return sandbox, err
}

// checkLater runs one more container in a pod and says what is wrong with the pod's record, or with what the container is told.
func checkLater(ctx context.Context, d told, pod *node.Pod) error {
	container, err := pod.Run(ctx, node.ContainerSpec{Name: "later"})
	if err != nil {
		return err
	}
	sandbox, err := started(ctx, d, pod)
	if err != nil {
		return err
	}
	return errors.Join(checkRecord(pod, sandbox), checkAnnotated(pod, sandbox, container))
}

// checkPinned says what is wrong with a gVisor pod that should have started pinned: in neighpin's record, in runsc's log
// and in every container's annotation. It counts the pod in the figures.
func checkPinned(ctx context.Context, d told, pod *node.Pod, containers ...*node.Container) error {
	sandbox, err := started(ctx, d, pod)
	if err != nil {
		return err
	}
	bed.figures.add(pod, sandbox.Timing)
	if sandbox.Timing.Verdict != "inTime" {
		return fmt.Errorf("pod %s: verdict %q with a margin of %g ms; expected inTime", pod.Name, sandbox.Timing.Verdict, sandbox.Timing.MarginMs)
	}
	if err := checkRecord(pod, sandbox); err != nil {
		return err
	}
	copied, err := pod.Copied()
	if err != nil {
		return err
	}
	if err := checkTrue(pod, copied); err != nil {
		return fmt.Errorf("runsc copied: %w", err)
	}
	return checkAnnotated(pod, sandbox, containers...)
}

// checkRecord compares the record's pins with the truth.
func checkRecord(pod *node.Pod, sandbox node.Sandbox) error {
	pinned := map[netip.Addr]string{}
	for _, n := range sandbox.Neighbors {
		ip, err := netip.ParseAddr(n.Dst)
		if err != nil {
			return err
		}
		if n.Dev != "eth0" {
			return fmt.Errorf("pod %s: %s is recorded on %s", pod.Name, n.Dst, n.Dev)
		}
		pinned[ip] = n.LLAddr
	}
	if err := checkTrue(pod, pinned); err != nil {
		return fmt.Errorf("recorded: %w", err)
	}
	if len(sandbox.Skipped) != 0 {
		return fmt.Errorf("pod %s: skipped %+v; expected none", pod.Name, sandbox.Skipped)
	}
	return nil
}

// checkTrue says whether neighbors are exactly both gateways with the MAC of the host's end.
func checkTrue(pod *node.Pod, neighbors map[netip.Addr]string) error {
	mac, err := hostMAC(pod)
	if err != nil {
		return err
	}
	expected := map[string]string{}
	for _, gateway := range gateways {
		expected[gateway.String()] = mac
	}
	if lines := differences(byText(neighbors), expected); len(lines) > 0 {
		return errors.New(disagree(fmt.Sprintf("pod %s, gateways", pod.Name), lines))
	}
	return nil
}

// annotationOf is the annotation in a container's config.json.
func annotationOf(pod *node.Pod, container *node.Container) (a annotation, err error) {
	annotations, err := container.Annotations()
	if err != nil {
		return a, err
	}
	if a, err = parseAnnotation(annotations[annotationKey]); err != nil {
		return a, fmt.Errorf("container %s of pod %s: %w", container.ID, pod.Name, err)
	}
	return a, nil
}

// checkAnnotated compares the annotation in each container's config.json with the record.
func checkAnnotated(pod *node.Pod, sandbox node.Sandbox, containers ...*node.Container) error {
	for _, container := range containers {
		a, err := annotationOf(pod, container)
		if err != nil {
			return err
		}
		if a.Version != 1 || a.Cookie != sandbox.NetNS.Cookie || a.CapturedAt.IsZero() {
			return fmt.Errorf("container %s of pod %s: annotation %+v, want version 1 and cookie %d", container.ID, pod.Name, a, sandbox.NetNS.Cookie)
		}
		annotated := map[netip.Addr]string{}
		for _, n := range a.Neighbors {
			ip, err := netip.ParseAddr(n.Dst)
			if err != nil {
				return err
			}
			if n.Dev != "eth0" || !slices.Equal(n.State, []string{"PERMANENT"}) {
				return fmt.Errorf("container %s of pod %s: entry %+v", container.ID, pod.Name, n)
			}
			annotated[ip] = n.LLAddr
		}
		if err := checkTrue(pod, annotated); err != nil {
			return fmt.Errorf("annotated: %w", err)
		}
	}
	return nil
}

// checkUntouched says whether the containers lack the annotation and the daemon pinned nothing in the pod.
func checkUntouched(ctx context.Context, d *node.Daemon, pod *node.Pod, containers ...*node.Container) error {
	status, err := d.Status(ctx)
	if err != nil {
		return err
	}
	for _, sandbox := range status.Sandboxes {
		if sandbox.ID == pod.ID && (len(sandbox.Neighbors) != 0 || sandbox.Annotated) {
			return fmt.Errorf("pod %s is none of neighpin's, yet its record is %+v", pod.Name, sandbox)
		}
	}
	for _, container := range containers {
		annotations, err := container.Annotations()
		if err != nil {
			return err
		}
		if text, ok := annotations[annotationKey]; ok {
			return fmt.Errorf("container %s of pod %s is annotated: %s", container.ID, pod.Name, text)
		}
	}
	return nil
}
