// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/datapath"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// interiorGateways are those of the datapath on which nobody answers for them.
var interiorGateways = []netip.Addr{netip.MustParseAddr(datapath.CiliumGateway4), netip.MustParseAddr(datapath.CiliumGateway6)}

// brief is for a question that is asked again.
const brief = 3 * time.Second

// worker is a pod whose program has moved the pod's link into a namespace of its own and runs gVisor there, with a counter in
// it (cmd/worker).
type worker struct {
	begin     time.Time
	pod       *node.Pod
	container *node.Container
	logs      string // folder of runsc's logs
	pipe      string // whose writer lets gVisor start
}

// runWorker runs a worker on the datapath where nobody answers for the gateways. Checkpoints is a folder that workers share.
func runWorker(t *testing.T, name, checkpoints string, flags ...string) *worker {
	t.Helper()
	w := &worker{begin: time.Now(), pipe: filepath.Join(t.TempDir(), "hold")}
	var err error
	if w.logs, err = os.MkdirTemp(bed.LogDir(), name+"-"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(w.pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	w.pod = runPod(t, node.PodSpec{Name: name, Namespace: "cilium-silent", Handler: "runc", Privileged: true,
		Annotations: asksForFile})
	programs := bed.Programs()
	w.container, err = w.pod.Run(t.Context(), node.ContainerSpec{
		Program: "/opt/worker", Args: append(flags, "--hold", "/hold", "/workload", "count", ":8080"), Privileged: true,
		Mounts: []node.Mount{
			{Source: filepath.Join(programs.Own, "worker"), Target: "/opt/worker"},
			{Source: filepath.Join(programs.GVisor, "runsc"), Target: "/opt/runsc"},
			{Source: w.logs, Target: "/logs", Writable: true},
			{Source: w.pipe, Target: "/hold"},
			{Source: checkpoints, Target: "/checkpoints", Writable: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// ask sends one request from the node to the counter, by one of the pod's addresses, over a connection of its own, within a limit.
func ask(ctx context.Context, limit time.Duration, method string, pod netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Dialed here: a client of package http leaves its attempts behind.
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(pod, 8080).String())
	if err != nil {
		return "", err
	}
	defer connection.Close()
	deadline, _ := ctx.Deadline()
	if err := connection.SetDeadline(deadline); err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://counter/", nil)
	if err != nil {
		return "", err
	}
	if err := request.Write(connection); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// serves waits until the counter says, by each of the pod's addresses, that it stands there.
func (w *worker) serves(t *testing.T, at string) {
	t.Helper()
	err := await.Within(t.Context(), patience, "the counter of "+w.pod.Name, func() error {
		for _, address := range w.pod.Addresses {
			if got, err := ask(t.Context(), brief, http.MethodGet, address); err != nil || got != at {
				return fmt.Errorf("at %s: %q, %w, want %s", address, got, err, at)
			}
		}
		return nil
	})
	if err != nil {
		out, _ := w.container.Output()
		t.Fatalf("%v\nits worker says:\n%s", err, out)
	}
}

// counts posts and checks what the counter says then.
func (w *worker) counts(t *testing.T, want string) {
	t.Helper()
	if got, err := ask(t.Context(), patience, http.MethodPost, w.pod.Addresses[0]); err != nil || got != want {
		t.Fatalf("POST to %s: %q, %v, want %s", w.pod.Name, got, err, want)
	}
}

// startsPinned looks into the interior namespace while its worker waits to start gVisor, lets it go on, and checks what runsc
// copied. The command is runsc's.
func (w *worker) startsPinned(t *testing.T, command string) {
	t.Helper()
	mac, err := hostMAC(w.pod)
	if err != nil {
		t.Fatal(err)
	}
	want := map[netip.Addr]string{}
	for _, gateway := range interiorGateways {
		want[gateway] = mac
	}
	interior, err := w.container.Inside("/run/netns/interior")
	if err != nil {
		t.Fatal(err)
	}
	// The other end of the pipe is open when the worker waits.
	release, err := w.held(t.Context())
	if err != nil {
		out, _ := w.container.Output()
		t.Fatalf("%v\nits worker says:\n%s", err, out)
	}
	entries, err := permanentIn(interior)
	if err != nil || !reflect.DeepEqual(entries, want) {
		t.Errorf("before runsc starts the interior namespace has the permanent entries %v, %v, want %v", entries, err, want)
	}
	if _, err := os.Stat(filepath.Join(w.logs, command+".log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("runsc is at work already: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	err = await.Within(t.Context(), patience, "runsc "+command+" to set up the network", func() error {
		copied, err := node.CopiedBy(filepath.Join(w.logs, command+".log"))
		if err == nil && !reflect.DeepEqual(copied, want) {
			err = fmt.Errorf("copied %v, want %v", copied, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// held waits until the worker waits, and returns what lets it go on.
func (w *worker) held(ctx context.Context) (release func() error, err error) {
	var pipe *os.File
	err = await.Within(ctx, patience, "the worker of "+w.pod.Name+" to be ready for gVisor", func() (err error) {
		// Without a reader this fails.
		pipe, err = os.OpenFile(w.pipe, os.O_WRONLY|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pipe.Close, nil
}

// permanentIn are the permanent entries of a namespace, as `ip neigh` would show them.
func permanentIn(path string) (map[netip.Addr]string, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	list, err := handle.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	found := map[netip.Addr]string{}
	for _, n := range list {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && n.State == unix.NUD_PERMANENT {
			found[ip.Unmap()] = n.HardwareAddr.String()
		}
	}
	return found, nil
}

// A pod's program runs gVisor in a namespace that only it knows of. The counter inside goes on in another pod, whose gateways
// have another MAC, and nobody ever asks for a gateway.
func TestACounterInAnInteriorNamespaceGoesOnInAnotherPod(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	messages := capture(t)
	checkpoints := t.TempDir()

	first := runWorker(t, "interior-1", checkpoints)
	first.startsPinned(t, "run")
	first.serves(t, "0")
	for _, want := range []string{"1", "2", "3"} {
		first.counts(t, want)
	}
	before := first.silent(t, d, messages)
	out, err := first.container.Command(t.Context(), "/opt/runsc", "--root", "/run/runsc", "checkpoint", "--image-path", "/checkpoints", "sandbox")
	if err != nil {
		t.Fatalf("checkpoint: %v\n%s", err, out)
	}

	second := runWorker(t, "interior-2", checkpoints, "--restore", "/checkpoints")
	second.startsPinned(t, "restore")
	second.serves(t, "3")
	second.counts(t, "4")
	second.serves(t, "4")
	if asked := messages.Messages(wire.Asks(first.pod.HostLink, first.begin, interiorGateways...)); len(asked) != 0 {
		t.Errorf("around its checkpoint the first pod asked for its gateways:\n%s", wire.Format(asked))
	}
	if after := second.silent(t, d, messages); after == before {
		t.Errorf("both pods' gateways have the MAC %s; the second pod proves nothing", after)
	}
}

// silent checks that the pod was pinned in time and never asked for a gateway, and returns their MAC.
func (w *worker) silent(t *testing.T, d *node.Daemon, messages *wire.Capture) (mac string) {
	t.Helper()
	sandbox, err := started(t.Context(), d, w.pod)
	if err != nil {
		t.Fatal(err)
	}
	if sandbox.Timing.Verdict != "inTime" || len(sandbox.Neighbors) != len(interiorGateways) {
		t.Errorf("status of %s: %+v", w.pod.Name, sandbox)
	}
	if asked := messages.Messages(wire.Asks(w.pod.HostLink, w.begin, interiorGateways...)); len(asked) != 0 {
		t.Errorf("%s asked for its gateways:\n%s", w.pod.Name, wire.Format(asked))
	}
	if len(messages.Messages(wire.Query{Link: w.pod.HostLink, Since: w.begin})) == 0 {
		t.Errorf("the capture recorded nothing at all on %s; the silence proves nothing", w.pod.HostLink)
	}
	if mac, err = hostMAC(w.pod); err != nil {
		t.Fatal(err)
	}
	return mac
}

// Without pins in the interior namespace gVisor asks for its gateway, and as nobody answers the node hears nothing.
func TestControlInteriorNamespaceWithoutPins(t *testing.T) {
	keepLogs(t)
	startDaemon(t)
	messages := capture(t)
	w := runWorker(t, "interior-unpinned", t.TempDir(), "--unpinned")
	release, err := w.held(t.Context())
	if err == nil {
		err = release()
	}
	if err != nil {
		t.Fatal(err)
	}
	err = await.Within(t.Context(), patience, "runsc to be at work", func() error {
		copied, err := node.CopiedBy(filepath.Join(w.logs, "run.log"))
		if len(copied) != 0 {
			t.Errorf("runsc copied %v", copied)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Until it listens nobody answers; each try makes gVisor answer, which it can do by way of its gateway only.
	tries := within(t, patience)
	err = await.Condition(tries, "a question for the gateway", func() error {
		if got, err := ask(tries, brief, http.MethodGet, w.pod.Addresses[0]); err == nil {
			t.Fatalf("the counter answers %q, although nobody answers for the gateway", got)
		}
		if asked := messages.Messages(wire.Asks(w.pod.HostLink, w.begin, interiorGateways[0])); len(asked) == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
