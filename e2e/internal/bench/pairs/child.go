// SPDX-License-Identifier: Apache-2.0

package pairs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	handle "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// Child is the argument by which this program is started as one of the two nodes: see RunChild.
const Child = "pairs-node"

// RunChild is a node that takes orders on its input, one at a time, and answers each on its output, until its input ends. It returns
// the program's exit code.
func RunChild() int {
	nothing := func(context.Context) ([]string, error) { return nil, nil }
	return enclosure.Main(nothing, func() int {
		if err := serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			return 1
		}
		return 0
	})
}

// What can be ordered.
const (
	doReady  = "ready"  // answers when the node is there
	doPin    = "pin"    // start neighpin
	doUnpin  = "unpin"  // stop it
	doStart  = "start"  // start a pod
	doRemove = "remove" // remove all pods
)

// order is what a node is to do.
type order struct {
	Do  string
	Pod sort `json:",omitzero"`
}

// sort is what kind of pod to start.
type sort struct {
	Name    string // for people
	Handler string
	// Wish makes neighpin select it, whatever its handler is; Pinned tells that neighpin, if it is there, does select it.
	Wish, Pinned bool
}

// answer is what came of an order.
type answer struct {
	Err   string `json:",omitempty"`
	Start start  `json:",omitzero"`
}

// start are the times of the CRI's calls for one pod, and what containerd and neighpin had of a processor meanwhile.
type start struct{ Sandbox, Create, Start, Containerd, Neighpin time.Duration }

func (s start) sum() time.Duration { return s.Sandbox + s.Create + s.Start }

// inmate is the node inside its enclosure.
type inmate struct {
	*node.Node
	daemon *node.Daemon
	pods   []*node.Pod
	served int // pods since the daemon was started
}

func serve(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		return err
	}
	n, err := node.Start(ctx, programs, node.Options{RunscQuiet: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close(ctx)) }()
	i := &inmate{Node: n}
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		a, err := i.do(ctx, o)
		if err != nil {
			a.Err = err.Error()
			if folder, failed := n.KeepLogs("bench-pairs"); failed == nil {
				a.Err += " (the logs are kept in " + folder + ")"
			}
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (i *inmate) do(ctx context.Context, o order) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch o.Do {
	case doReady:
	case doPin:
		err = i.pin(ctx)
	case doUnpin:
		err = i.unpin(ctx)
	case doStart:
		a.Start, err = i.start(ctx, o.Pod)
	case doRemove:
		err = i.remove(ctx)
	default:
		err = fmt.Errorf("follow order %q: it is none", o.Do)
	}
	return a, err
}

const (
	// patience bounds one order.
	patience = time.Minute
	// metricsAddress is where neighpin says how often it was asked.
	metricsAddress = "127.0.0.1:19400"
)

// pin starts neighpin, as it is by default.
func (i *inmate) pin(ctx context.Context) (err error) {
	i.served = 0
	i.daemon, err = i.StartDaemon(node.DaemonOptions{Args: []string{"--log-level", "info", "--metrics-address", metricsAddress}})
	if err != nil {
		return err
	}
	return i.daemon.Ready(ctx)
}

// unpin stops neighpin, which has to have handled every pod.
func (i *inmate) unpin(ctx context.Context) error {
	handled, err := i.daemon.Handled(ctx, metricsAddress)
	if err != nil {
		return err
	}
	for _, event := range []string{"RunPodSandbox", "CreateContainer"} {
		if got := handled[event].Count; got != i.served {
			return fmt.Errorf("count neighpin's events: %d %s, want %d", got, event, i.served)
		}
	}
	err = i.daemon.Stop(ctx)
	i.daemon = nil
	return err
}

// ran is how long containerd and neighpin have run.
func (i *inmate) ran() (containerd, neighpin time.Duration, err error) {
	if containerd, err = node.Ran(i.ContainerdPID()); err == nil && i.daemon != nil {
		neighpin, err = node.Ran(i.daemon.PID())
	}
	return containerd, neighpin, err
}

// start starts a pod with a container, and checks what neighpin has done, or nobody has.
func (i *inmate) start(ctx context.Context, of sort) (s start, err error) {
	containerd, neighpin, err := i.ran()
	if err != nil {
		return s, err
	}
	pod, s, err := i.timed(ctx, of)
	if err != nil {
		return s, err
	}
	if s.Containerd, s.Neighpin, err = i.ran(); err != nil {
		return s, err
	}
	s.Containerd, s.Neighpin = s.Containerd-containerd, s.Neighpin-neighpin
	if i.daemon == nil {
		return s, unpinned(pod)
	}
	i.served++
	if of.Pinned {
		return s, i.inTime(ctx, pod)
	}
	if _, err := i.daemon.Record(pod); err == nil {
		return s, fmt.Errorf("look for a record of pod %s, which is not selected: there is one", pod.Name)
	}
	return s, unpinned(pod)
}

func (i *inmate) timed(ctx context.Context, of sort) (pod *node.Pod, s start, err error) {
	spec := node.PodSpec{Handler: of.Handler}
	if of.Wish {
		spec.Annotations = map[string]string{"neighpin.io/pin": "true"}
	}
	if pod, err = i.RunPod(ctx, spec); err != nil {
		return nil, s, err
	}
	i.pods = append(i.pods, pod)
	began := time.Now()
	container, err := pod.Create(ctx, node.ContainerSpec{})
	if err != nil {
		return nil, s, err
	}
	created := time.Now()
	if err := container.Start(ctx); err != nil {
		return nil, s, err
	}
	return pod, start{Sandbox: pod.Took, Create: created.Sub(began), Start: time.Since(created)}, nil
}

// inTime waits for neighpin's word that the pod's gateways were pinned in time.
func (i *inmate) inTime(ctx context.Context, pod *node.Pod) error {
	return await.Every(ctx, 5*time.Millisecond, "the verdict on pod "+pod.Name, func() error {
		rec, err := i.daemon.Record(pod)
		if err != nil {
			return err
		}
		if rec.Timing.Verdict != "inTime" || len(rec.Neighbors) != 2 {
			return fmt.Errorf("look at its record: %d pins, %q, error %q", len(rec.Neighbors), rec.Timing.Verdict, rec.Error)
		}
		return nil
	})
}

// unpinned says if a pod has a permanent neighbor all the same.
func unpinned(pod *node.Pod) error {
	ns, err := handle.GetFromPath(pod.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of pod %s: %w", pod.Name, err)
	}
	defer ns.Close()
	inner, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer inner.Close()
	list, err := inner.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the neighbors of pod %s: %w", pod.Name, err)
	}
	for _, n := range list {
		if n.State == netlink.NUD_PERMANENT && !n.IP.IsMulticast() {
			return fmt.Errorf("look at the neighbors of pod %s: %s is permanent, and nobody should have pinned it", pod.Name, n.IP)
		}
	}
	return nil
}

// remove removes all pods at once.
func (i *inmate) remove(ctx context.Context) error {
	errs := make(chan error, len(i.pods))
	for _, pod := range i.pods {
		go func() { errs <- pod.Remove(ctx) }()
	}
	var all error
	for range i.pods {
		all = errors.Join(all, <-errs)
	}
	i.pods = nil
	return all
}
