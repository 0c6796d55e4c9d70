// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/nri/pkg/api"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/pkg/record"
)

// home is where everything of this section is; an enclosure's /run is its own.
const home = "/run/nritrip"

// party is a neighpin that knows a number of sandboxes, and an empty plugin beside it, each with a runtime of its own.
type party struct {
	known  int
	number int
	folder string // where namespaces of its pods appear
	state  string // neighpin's

	ours, other *rig.Runtime
	daemon      *node.Daemon
	empty       *rig.Child

	made   int
	series [kinds]map[string]*series
}

// series is what was measured of one event, round by round.
type series struct{ ours, other []time.Duration }

// Kinds of pods.
const (
	selected = iota
	unselected
	kinds
)

func kindName(kind int) string { return [...]string{"selected", "not selected"}[kind] }

// startParty starts both plugins. Of each of the records there are copies under other ids, so many that known sandboxes are there:
// neighpin finds them in its state folder, and is told of the same by the runtime, as after its restart on a full node.
func startParty(ctx context.Context, n *node.Node, number, known int, records []record.Record) (_ *party, err error) {
	r := &party{known: known, number: number}
	base := filepath.Join(home, fmt.Sprintf("known-%d", known))
	r.folder, r.state = filepath.Join(base, "netns"), filepath.Join(base, "state")
	for i := range r.series {
		r.series[i] = map[string]*series{runPodSandbox: {}, createContainer: {}}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	pods, err := r.know(records)
	if err != nil {
		return nil, err
	}
	for side, runtime := range map[string]**rig.Runtime{"ours": &r.ours, "other": &r.other} {
		// It says that it is the release that is measured elsewhere: neighpin's answers depend on that.
		if *runtime, err = rig.StartRuntime(filepath.Join(base, side+".sock"), "containerd", "v2.4.0"); err != nil {
			return nil, err
		}
		(*runtime).Tell(pods, nil)
	}
	if r.daemon, err = startDaemon(n, r.state, r.folder, r.ours.Socket, "--metrics-address", r.metricsAddress()); err != nil {
		return nil, err
	}
	r.empty, err = startEmpty(ctx, r.other.Socket)
	return r, err
}

// startDaemon starts neighpin as it is by default.
func startDaemon(n *node.Node, state, folder, socket string, args ...string) (*node.Daemon, error) {
	return n.StartDaemon(node.DaemonOptions{
		StateDir: state, Args: append([]string{"--log-level", "info", "--netns-dirs", folder, "--nri-socket", socket}, args...),
	})
}

func (r *party) metricsAddress() string { return fmt.Sprintf("127.0.0.1:%d", 19300+r.number) }

// know writes records of known sandboxes and returns the runtime's words for them. In the place of each one's namespace is an empty
// file, since ten thousand namespaces take a minute to make: neighpin takes that for one that comes or goes, and keeps the sandbox
// because the other end of its link is there, which it shares with its pattern.
func (r *party) know(records []record.Record) (pods []*api.PodSandbox, err error) {
	folder, err := record.Open(r.state)
	if err != nil {
		return nil, err
	}
	namespaces := filepath.Join(filepath.Dir(r.folder), "known")
	if err := os.MkdirAll(namespaces, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of known namespaces: %w", err)
	}
	for i := range r.known {
		rec := records[i%len(records)]
		rec.NetNS.Path = filepath.Join(namespaces, "cni-"+rig.NewID())
		if err := os.WriteFile(rec.NetNS.Path, nil, 0o600); err != nil {
			return nil, fmt.Errorf("make a file in the place of a namespace: %w", err)
		}
		pod := newSandbox(100_000+i, rec.Handler, rec.NetNS.Path)
		rec.ID, rec.Name, rec.Namespace, rec.UID = pod.Id, pod.Name, pod.Namespace, pod.Uid
		if err := folder.Save(rec); err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

// settle returns when both plugins are in their runtimes' lists, neighpin knows what it is to know, and is at rest.
func (r *party) settle(ctx context.Context) error {
	if err := r.daemon.Ready(ctx); err != nil {
		return err
	}
	r.ours.Settle()
	r.other.Settle()
	if err := r.rest(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	status, err := r.daemon.Status(ctx)
	if err != nil {
		return err
	}
	if len(status.Sandboxes) != r.known {
		return fmt.Errorf("count what neighpin knows: %d sandboxes, want %d", len(status.Sandboxes), r.known)
	}
	return nil
}

// rest waits until neighpin has had almost no processor for a while: it compares what it took over, and nobody tells when that is
// over.
func (r *party) rest(ctx context.Context, pause time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	last := time.Duration(-1)
	return await.Every(ctx, pause, fmt.Sprintf("neighpin with %d sandboxes to be at rest", r.known), func() error {
		now, err := node.Ran(r.daemon.PID())
		if err != nil {
			return err
		}
		used, first := now-last, last < 0
		last = now
		if first || used > pause/20 {
			return fmt.Errorf("look at its processor time: %v in %v", used, pause)
		}
		return nil
	})
}

// finish ends the plugins and checks that each was asked as often as the other.
func (r *party) finish(ctx context.Context) error {
	ours, err := r.daemon.Handled(ctx, r.metricsAddress())
	if err != nil {
		return err
	}
	var calls map[string]int
	err = r.empty.Close(&calls)
	r.empty = nil
	if err != nil {
		return err
	}
	for _, event := range events() {
		want := 0
		for _, kind := range r.series {
			want += len(kind[event].ours)
		}
		if got := ours[event].Count; got != want || calls[event] != want || want == 0 {
			return fmt.Errorf("count %s with %d known: neighpin handled %d, the empty plugin %d, want %d", event, r.known, got, calls[event], want)
		}
	}
	return r.daemon.Stop(ctx)
}

// close ends what is left.
func (r *party) close() error {
	var errs []error
	if r.empty != nil {
		errs = append(errs, r.empty.Close(nil))
	}
	if r.daemon != nil {
		errs = append(errs, r.daemon.Kill())
	}
	for _, rt := range []*rig.Runtime{r.ours, r.other} {
		if rt != nil {
			errs = append(errs, rt.Close())
		}
	}
	return errors.Join(errs...)
}
