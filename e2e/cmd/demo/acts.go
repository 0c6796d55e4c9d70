// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
	"github.com/neighpin/neighpin/pkg/annotation"
)

// act is the demo's play on one node.
type act struct {
	stage
	node *node.Node
}

// without shows a gVisor pod that nobody helps.
func (a act) without(ctx context.Context) (err error) {
	a.title("1. A gVisor pod without neighpin")
	pod, asked, err := a.firstConnection(ctx, "alone")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Remove(context.WithoutCancel(ctx))) }()
	copied, err := pod.Copied()
	if err != nil {
		return err
	}
	a.say("neighbors that runsc found in the pod's namespace and took along: %d", len(copied))
	a.say("on the wire, from the pod, before its first packet could leave:")
	a.evidence(amber, wire.Format(asked))
	if len(asked) == 0 || len(copied) != 0 {
		return errors.New("this pod should have had to ask for its gateways")
	}
	a.verdict(amber, fmt.Sprintf("%d questions for the gateways: who answers decides where the pod's traffic goes", len(asked)))
	return nil
}

// with shows the same with neighpin.
func (a act) with(ctx context.Context) (err error) {
	a.title("2. The same with neighpin")
	a.say("$ neighpin plugin &")
	daemon, err := a.node.StartDaemon(node.DaemonOptions{})
	if err != nil {
		return err
	}
	if err := daemon.Ready(ctx); err != nil {
		return err
	}
	pod, asked, err := a.firstConnection(ctx, "pinned")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, pod.Remove(context.WithoutCancel(ctx)), daemon.Stop(context.WithoutCancel(ctx)))
	}()
	lines, err := copyLines(pod)
	if err != nil {
		return err
	}
	a.say("runsc's own log, from the moment it reads the pod's namespace:")
	a.evidence(green, strings.Join(lines, "\n"))
	a.say("on the wire, from the pod, for its gateways:")
	if len(asked) > 0 {
		a.evidence(amber, wire.Format(asked))
		return errors.New("a pinned pod should not have had to ask")
	}
	a.evidence(green, "(silence)")
	if len(lines) != 2 {
		return fmt.Errorf("runsc took %d neighbors along, want one per family", len(lines))
	}
	a.say("$ neighpin status")
	status, _, err := a.node.CLI(ctx, "status")
	if err != nil {
		return err
	}
	a.evidence(green, status)
	if err := a.annotations(ctx, pod); err != nil {
		return err
	}
	a.verdict(green, "the pod began its life knowing its gateways, on IPv4 and IPv6, and asked nobody")
	return nil
}

// firstConnection runs a gVisor pod, lets it connect to the node in both
// families, and returns what it asked the wire from then on.
func (a act) firstConnection(ctx context.Context, name string) (*node.Pod, []wire.Message, error) {
	capture, err := wire.Open()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = capture.Close() }()
	began := time.Now()
	pod, err := a.node.RunPod(ctx, node.PodSpec{Name: name, Handler: "runsc"})
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*node.Pod, []wire.Message, error) {
		return nil, nil, errors.Join(err, pod.Remove(context.WithoutCancel(ctx)))
	}
	container, err := pod.Run(ctx, node.ContainerSpec{})
	if err != nil {
		return fail(err)
	}
	a.say("pod %q runs after %d ms (runtime handler runsc, link to the node %s)", name, time.Since(began).Milliseconds(), pod.HostLink)
	since := time.Now()
	out, err := container.Connect(ctx)
	if err != nil {
		return fail(err)
	}
	a.say("its first connections:")
	a.evidence(dim, out)
	return pod, capture.Messages(wire.Asks(pod.HostLink, since, node.Gateway4, node.Gateway6)), nil
}

// copyLines are the lines in which runsc says what it copied.
func copyLines(pod *node.Pod) ([]string, error) {
	data, err := os.ReadFile(pod.RunscLog("start"))
	if err != nil {
		return nil, fmt.Errorf("read runsc's log: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if i := strings.Index(line, "Copying a static ARP entry"); i >= 0 {
			lines = append(lines, strings.TrimSpace(line[i:]))
		}
	}
	return lines, nil
}

// annotations shows what the pod's containers carry, from the config.json that
// the runtime got.
func (a act) annotations(ctx context.Context, pod *node.Pod) error {
	container, err := pod.Run(ctx, node.ContainerSpec{Name: "second"})
	if err != nil {
		return err
	}
	all, err := container.Annotations()
	if err != nil {
		return err
	}
	value := all[annotation.Key]
	if _, err := annotation.Parse(value); err != nil {
		return fmt.Errorf("annotation of container %s: %w", container.ID, err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(value), "", "  "); err != nil {
		return err
	}
	a.say("config.json of the pod's next container, annotation %s:", annotation.Key)
	a.evidence(green, pretty.String())
	return nil
}
