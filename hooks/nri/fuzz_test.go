// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"google.golang.org/protobuf/proto"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/sandbox"
	"github.com/neighpin/neighpin/pkg/selection"
)

// serving are handlers with an engine that pins everything.
func serving(tb testing.TB, stateDir string) *handlers {
	tb.Helper()
	engine := newEngine(tb, stateDir, func(o *sandbox.Options) {
		o.Selection.Handlers, o.Selection.Annotate = []string{"*"}, []string{"*"}
	})
	tb.Cleanup(engine.Close)
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	tb.Cleanup(hook.Reset)
	h := &handlers{
		configure: func(string) (*sandbox.Engine, error) { return engine, nil },
		onRuntime: func(string, string) {}, onSync: func() {}, observe: func(string, time.Duration, error) {}, log: logger,
	}
	if _, err := h.Configure(context.Background(), "", "containerd", "v2.4.0"); err != nil {
		tb.Fatal(err)
	}
	return h
}

// messages are pods and containers as a runtime sends them, and as none should.
func messages(tb testing.TB, netns string) (pods, containers [][]byte) {
	tb.Helper()
	linux := func(path string) *api.LinuxPodSandbox {
		return &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "pid"}, nil, {Type: "network", Path: path}, {Type: "network", Path: "second"}}}
	}
	wishes := map[string]string{selection.PinAnnotation: "true", selection.FileAnnotation: "true", annotation.Key: "{}"}
	for _, pod := range []*api.PodSandbox{
		{},
		{Id: "0123456789abcdef", Name: "web", Namespace: "shop", Uid: "u1", RuntimeHandler: "runc", Annotations: wishes, Linux: linux(netns)},
		{Id: "0123456789abcdef", Linux: linux("none")},
		{Id: "../../../etc/passwd", Name: "a\nb\x1b[2J", Linux: linux(netns)},
		{Id: strings.Repeat("a", 129), Annotations: map[string]string{"": strings.Repeat("x", 99)}, Linux: &api.LinuxPodSandbox{}},
	} {
		pods = append(pods, encode(tb, pod))
	}
	for _, container := range []*api.Container{
		{},
		{Id: "c1", Name: "app", Annotations: map[string]string{annotation.Key: "{}"}},
		{Id: "c1", Mounts: []*api.Mount{{Destination: "/run", Options: []string{"ro"}}, {Destination: "/run/neighpin/../neighpin"}, nil}},
	} {
		containers = append(containers, encode(tb, container))
	}
	return pods, containers
}

func encode(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// FuzzRequests: whatever a runtime says of a pod, no handler panics or fails, nothing
// is written but records of proper names, and a container is told of nothing but
// what was pinned. The text stands for what a decoder of messages would have
// refused, such as bytes that are no UTF-8.
func FuzzRequests(f *testing.F) {
	dir, stateDir := f.TempDir(), f.TempDir()
	ns, host := nstest.New(f), nstest.Own(f)
	other := fmt.Sprintf("v%d", ns.Cookie())
	ns.Veth("eth0", host, other)
	f.Cleanup(func() { _, _ = host.TryIP("link del " + other) })
	ns.IP("address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1")
	if err := os.WriteFile(filepath.Join(dir, "netns"), nil, 0o600); err != nil {
		f.Fatal(err)
	}
	ns.MountAt(filepath.Join(dir, "netns"))
	h := serving(f, stateDir)
	pods, containers := messages(f, "netns")
	for _, pod := range pods {
		for _, container := range containers {
			f.Add(pod, container, "")
		}
	}
	f.Add([]byte(nil), []byte(nil), "\xff\xfe\n")
	files := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*\.json$`)
	f.Fuzz(func(t *testing.T, podMessage, containerMessage []byte, text string) {
		var pod *api.PodSandbox
		var container *api.Container
		if len(podMessage) > 0 {
			pod = &api.PodSandbox{}
			_ = proto.Unmarshal(podMessage, pod) // as far as it goes
			pod.Name += text
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[text] = text
		}
		if len(containerMessage) > 0 {
			container = &api.Container{}
			_ = proto.Unmarshal(containerMessage, container)
			container.Name = text
		}
		for _, n := range pod.GetLinux().GetNamespaces() {
			if n.GetType() == "network" && n.GetPath() != "" {
				n.Path = filepath.Join(dir, filepath.Base(n.GetPath())) // and not just any file of the machine
			}
		}
		ctx := t.Context()
		if _, err := h.Synchronize(ctx, []*api.PodSandbox{pod, nil}, []*api.Container{container}); err != nil {
			t.Errorf("Synchronize: %v", err)
		}
		if err := h.RunPodSandbox(ctx, pod); err != nil {
			t.Errorf("RunPodSandbox: %v", err)
		}
		adjustment, _, err := h.CreateContainer(ctx, pod, container)
		if err != nil {
			t.Errorf("CreateContainer: %v", err)
		}
		checkAdjustment(t, adjustment, ns.Cookie())
		records, err := os.ReadDir(filepath.Join(stateDir, "sandboxes"))
		if err != nil {
			t.Error(err)
		}
		for _, record := range records {
			if !files.MatchString(record.Name()) && !strings.HasPrefix(record.Name(), ".") {
				t.Errorf("a record has the name %q", record.Name())
			}
		}
		for range 2 {
			if err := h.StopPodSandbox(ctx, pod); err != nil {
				t.Errorf("StopPodSandbox: %v", err)
			}
			if err := h.RemovePodSandbox(ctx, pod); err != nil {
				t.Errorf("RemovePodSandbox: %v", err)
			}
		}
	})
}

// checkAdjustment looks at what a container is changed by: our two things at most.
func checkAdjustment(t *testing.T, adjustment *api.ContainerAdjustment, cookie uint64) {
	t.Helper()
	for key, value := range adjustment.GetAnnotations() {
		a, err := annotation.Parse(value)
		if key != annotation.Key || err != nil || a.Cookie != cookie {
			t.Errorf("annotation %q: %q, %v", key, value, err)
		}
	}
	for _, m := range adjustment.GetMounts() {
		if m.GetDestination() != LiveFileMount || m.GetType() != "bind" {
			t.Errorf("mount %v", m)
		}
	}
}

// What a runtime may say at the wrong time: the end of pods that nobody knows,
// twice, and of known ones without a word of their namespace.
func TestEventsOutOfTurn(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	ns, pod := newPod(t, "runsc", nil)
	end := func(pod *api.PodSandbox) {
		t.Helper()
		if err := rt.nri.StopPodSandbox(t.Context(), &api.StopPodSandboxRequest{Pod: pod}); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := rt.nri.RemovePodSandbox(t.Context(), &api.RemovePodSandboxRequest{Pod: pod}); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	bare := &api.PodSandbox{Id: pod.GetId()}
	for _, unknown := range []*api.PodSandbox{{}, bare, {Id: "../x"}} {
		end(unknown)
		end(unknown)
	}
	// A container without its sandbox's start, then the start, late.
	if got := rt.createContainer(pod, nil); len(got) != 0 {
		t.Errorf("annotations %v of a pod that nobody has told of", got)
	}
	rt.runPodSandbox(pod)
	if rt.createContainer(bare, nil)[annotation.Key] == "" {
		t.Error("no annotation for a container whose pod comes without its namespace")
	}
	if got := ns.Output("neigh", "show", "nud", "permanent"); !strings.Contains(got, "10.88.0.1 dev eth0 ") {
		t.Errorf("entries: %q", got)
	}
	end(bare)
	end(pod)
	nstest.Eventually(t, "the sandbox to be forgotten", func() bool { return len(p.engine.Status().Sandboxes) == 0 })
	if p.count("RemovePodSandbox!")+p.count("StopPodSandbox!")+p.count("CreateContainer!") != 0 {
		t.Error("a handler failed")
	}
}
