// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/sandbox"
	"github.com/neighpin/neighpin/pkg/selection"
)

// nriPatience is how long NRI's code waits for a plugin here, instead of its two seconds: a busy machine may take longer.
const nriPatience = time.Minute

func TestMain(m *testing.M) {
	adaptation.SetPluginRegistrationTimeout(nriPatience)
	adaptation.SetPluginRequestTimeout(nriPatience)
	nstest.MainInside(m)
}

// runtime is the runtime's side of NRI: the code that containerd itself runs,
// behind a relay that can cut its connections, which the code never does before
// its process ends.
type runtime struct {
	t      *testing.T
	nri    *adaptation.Adaptation
	relay  *relay
	socket string
	torn   atomic.Bool // it fails to synchronize plugins

	mu         sync.Mutex // guards what it has when a plugin comes
	pods       []*api.PodSandbox
	containers []*api.Container

	name, version string
}

// newRuntime starts a runtime that has these pods already.
func newRuntime(t *testing.T, pods ...*api.PodSandbox) *runtime {
	t.Helper()
	return newRuntimeOf(t, "test-runtime", "v0.1.0", pods...)
}

// newRuntimeOf starts a runtime that says it is another.
func newRuntimeOf(t *testing.T, name, version string, pods ...*api.PodSandbox) *runtime {
	t.Helper()
	// Paths of sockets are short: t.TempDir has the test's name in it.
	dir, err := os.MkdirTemp("", "nri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &runtime{t: t, socket: filepath.Join(dir, "nri.sock"), pods: pods, name: name, version: version}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *runtime) start() {
	r.t.Helper()
	inner := filepath.Join(filepath.Dir(r.socket), "inner.sock")
	nri, err := adaptation.New(r.name, r.version, r.synchronize,
		func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil },
		adaptation.WithSocketPath(inner),
		adaptation.WithPluginPath(filepath.Dir(r.socket)+"/plugins"),
		adaptation.WithPluginConfigPath(filepath.Dir(r.socket)+"/conf.d"))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := nri.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.nri = nri
	r.relay = newRelay(r.t, r.socket, inner)
}

// stop ends the runtime as its death would: connections are cut.
func (r *runtime) stop() {
	if r.nri == nil {
		return
	}
	r.relay.close()
	r.nri.Stop()
	r.nri = nil
}

func (r *runtime) synchronize(ctx context.Context, sync adaptation.SyncCB) error {
	if r.torn.Load() {
		return errors.New("the pods are larger than a message")
	}
	r.mu.Lock()
	pods, containers := r.pods, r.containers
	r.mu.Unlock()
	_, err := sync(ctx, pods, containers)
	return err
}

// has is what the runtime tells of from now on when a plugin comes.
func (r *runtime) has(pod *api.PodSandbox, container *api.Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods, r.containers = []*api.PodSandbox{pod}, []*api.Container{container}
}

// createContainer relays a container's creation and returns its annotations
// after all plugins' adjustments.
func (r *runtime) createContainer(pod *api.PodSandbox, annotations map[string]string) map[string]string {
	r.t.Helper()
	adjusted, err := r.tryCreate(pod, &api.Container{Annotations: annotations})
	if err != nil {
		r.t.Fatalf("create container: %v", err)
	}
	return adjusted.GetAnnotations()
}

// tryCreate relays the creation of a container that has something of its own
// already, and returns all plugins' adjustments together.
func (r *runtime) tryCreate(pod *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, error) {
	container.Id, container.PodSandboxId, container.Name = "c1", pod.GetId(), "app"
	response, err := r.nri.CreateContainer(r.t.Context(), &api.CreateContainerRequest{Pod: pod, Container: container})
	return response.GetAdjust(), err
}

// relay passes connections on to another socket until it is closed.
type relay struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newRelay(t *testing.T, outer, inner string) *relay {
	t.Helper()
	listener, err := net.Listen("unix", outer)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener}
	r.wg.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", inner)
			if err != nil {
				_ = from.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, from, to)
			r.mu.Unlock()
			for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
				r.wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	return r
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.cut()
	r.wg.Wait()
}

// cut ends the connections that there are; others can be made.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.conns {
		_ = conn.Close()
	}
	r.conns = nil
}

// plugin is a connector with an engine of its own, running.
type plugin struct {
	*Connector
	engine *sandbox.Engine
	log    *logtest.Hook
	stop   func()
	wrong  atomic.Bool // its configuration

	mu      sync.Mutex     // guards the following
	handled map[string]int // events by name, and those that failed by name!
	tries   []error        // to register
}

func (p *plugin) registered(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries = append(p.tries, err)
}

// registrations returns how many there were, and how many that failed.
func (p *plugin) registrations() (good, bad int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range p.tries {
		if err == nil {
			good++
		} else {
			bad++
		}
	}
	return good, bad
}

func (p *plugin) observe(hook string, took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		hook += "!"
	}
	if took > 0 {
		p.handled[hook]++
	}
}

// count returns how many events of a name were handled; with a "!", how many of
// them failed.
func (p *plugin) count(hook string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handled[hook]
}

type silent struct{}

func (silent) Report(record.Event) {}

// runcStore stands in for containerd's sandbox store: every sandbox that NRI
// tells of is runc's. It does not list any, so that NRI is the only way in.
type runcStore struct{}

func (runcStore) List(context.Context, []string) ([]containerd.Record, error) {
	return []containerd.Record{}, nil
}

func (runcStore) Get(_ context.Context, id string) (containerd.Record, error) {
	return containerd.Record{ID: id, Runtime: "io.containerd.runc.v2"}, nil
}

func newEngine(t testing.TB, stateDir string, change ...func(*sandbox.Options)) *sandbox.Engine {
	t.Helper()
	options := sandbox.Options{
		Store: runcStore{},
		Selection: selection.Rules{
			Handlers: []string{"runsc*"}, Annotate: []string{"runsc*"}, PodAnnotations: selection.Allow,
		},
		StateDir: stateDir, NetNSDirs: []string{t.TempDir()}, MaxNeighbors: 16, Reporter: silent{},
	}
	for _, c := range change {
		c(&options)
	}
	engine, err := sandbox.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	return engine
}

// newPlugin runs a connector until the test ends or stop is called.
func newPlugin(t *testing.T, socket, stateDir string, change ...func(*sandbox.Options)) *plugin {
	t.Helper()
	return newPluginOf(t, Options{Socket: socket}, stateDir, change...)
}

// serve runs a connector, and returns when the runtime serves it with events.
func (r *runtime) serve(t *testing.T, stateDir string, change ...func(*sandbox.Options)) *plugin {
	t.Helper()
	p := newPlugin(t, r.socket, stateDir, change...)
	p.awaitSynchronized(t, r)
	return p
}

// newPluginOf is newPlugin with options of the connector's.
func newPluginOf(t *testing.T, o Options, stateDir string, change ...func(*sandbox.Options)) *plugin {
	t.Helper()
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	p := &plugin{engine: newEngine(t, stateDir, change...), log: hook, handled: make(map[string]int)}
	o.Name, o.Index, o.Log, o.Registered = "neighpin", "10", logger, p.registered
	o.Configure = func(string) (*sandbox.Engine, error) {
		if p.wrong.Load() {
			return nil, errors.New("no such setting")
		}
		return p.engine, nil
	}
	if o.Observe == nil {
		o.Observe = p.observe
	}
	p.Connector = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		p.engine.Close()
	})
	t.Cleanup(p.stop)
	return p
}

// awaitSynchronized waits until the runtime serves the plugin with events.
func (p *plugin) awaitSynchronized(t *testing.T, rt *runtime) {
	t.Helper()
	nstest.Eventually(t, "the plugin to be synchronized", func() bool {
		state := p.State()
		return state.Connected && state.Synchronized
	})
	// The runtime adds it to its list a moment after it has answered.
	rt.nri.BlockPluginSync().Unblock()
}

// said counts log entries at a level or above.
func (p *plugin) said(level logrus.Level) int {
	n := 0
	for _, entry := range p.log.AllEntries() {
		if entry.Level <= level {
			n++
		}
	}
	return n
}

// newPod makes a pod as ptp would, in a namespace mounted at a path.
func newPod(t *testing.T, handler string, annotations map[string]string) (*nstest.NS, *api.PodSandbox) {
	t.Helper()
	ns, host := nstest.New(t), nstest.Own(t)
	other := fmt.Sprintf("v%d", ns.Cookie())
	ns.Veth("eth0", host, other)
	t.Cleanup(func() { _, _ = host.TryIP("link del " + other) })
	ns.IP("address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1")
	return ns, podIn(ns, handler, annotations)
}

// podIn is NRI's word for a pod that has the namespace.
func podIn(ns *nstest.NS, handler string, annotations map[string]string) *api.PodSandbox {
	return &api.PodSandbox{
		Id: "0123456789abcdef", Name: "web", Namespace: "shop", Uid: "u1", RuntimeHandler: handler, Annotations: annotations,
		Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "pid"}, {Type: "network", Path: ns.Mount()}}},
	}
}

// begin starts a sandbox and a container of it.
func (r *runtime) begin(pod *api.PodSandbox) {
	r.t.Helper()
	r.runPodSandbox(pod)
	r.createContainer(pod, nil)
}

// runPodSandbox tells of a sandbox that has been created. The engine answers after a second at the latest, done or not; who got
// such an answer, of a machine that stood still, tells it once more.
func (r *runtime) runPodSandbox(pod *api.PodSandbox) {
	r.t.Helper()
	nstest.Eventually(r.t, "an answer to RunPodSandbox in time", func() bool {
		began := time.Now()
		if err := r.nri.RunPodSandbox(r.t.Context(), &api.RunPodSandboxRequest{Pod: pod}); err != nil {
			r.t.Fatal(err)
		}
		return time.Since(began) < time.Second
	})
}
