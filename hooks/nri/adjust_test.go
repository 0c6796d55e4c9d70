// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// foreign is another NRI plugin that wants what neighpin wants.
type foreign struct{ adjust *api.ContainerAdjustment }

func (f *foreign) Configure(context.Context, string, string, string) (api.EventMask, error) {
	var mask api.EventMask
	mask.Set(api.Event_CREATE_CONTAINER)
	return mask, nil
}

func (f *foreign) CreateContainer(context.Context, *api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	return f.adjust, nil, nil
}

// newForeign registers it under an index, which decides who comes first:
// neighpin's is 10.
func newForeign(t *testing.T, rt *runtime, index string, adjust *api.ContainerAdjustment) {
	t.Helper()
	s, err := stub.New(&foreign{adjust}, stub.WithSocketPath(rt.socket), stub.WithPluginName("foreign"), stub.WithPluginIdx(index))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(); s.Wait() })
	rt.nri.BlockPluginSync().Unblock()
}

const foreignValue = `{"version":1,"cookie":1,"capturedAt":"2026-01-02T03:04:05Z","neighbors":[]}`

func foreignAnnotation() *api.ContainerAdjustment {
	a := &api.ContainerAdjustment{}
	a.AddAnnotation(annotation.Key, foreignValue)
	return a
}

func TestAnotherPluginThatSetsTheAnnotationFirstKeepsItAndIsTold(t *testing.T) {
	rt := newRuntime(t)
	newForeign(t, rt, "05", foreignAnnotation())
	p := rt.serve(t, t.TempDir())
	_, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	if got := rt.createContainer(pod, nil)[annotation.Key]; got != foreignValue {
		t.Errorf("annotation %q, want the other plugin's", got)
	}
	if p.said(logrus.ErrorLevel) != 1 || !strings.Contains(p.messages(), "has set "+annotation.Key) {
		t.Errorf("the log does not say so:\n%s", p.messages())
	}
}

// There is nothing that neighpin could do: NRI asks it first and fails the
// container when the other one answers. NRI's error names both.
func TestAnotherPluginThatSetsTheAnnotationLaterFailsTheContainerInNRI(t *testing.T) {
	rt := newRuntime(t)
	rt.serve(t, t.TempDir())
	newForeign(t, rt, "20", foreignAnnotation())
	_, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	_, err := rt.tryCreate(pod, &api.Container{})
	if err == nil || !strings.Contains(err.Error(), "neighpin") || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("error %v, want one that names both plugins", err)
	}
}

// During a rolling update the other neighpin may have mended what this one has not
// looked at since; what it knows is in the record.
func TestWhatAnotherNeighpinHasMendedIsLeftAlone(t *testing.T) {
	rt := newRuntime(t)
	stateDir := t.TempDir()
	var other api.ContainerAdjustment
	newForeign(t, rt, "05", &other)
	p := rt.serve(t, stateDir)
	_, pod := newPod(t, "runsc", nil)
	rt.runPodSandbox(pod)
	rt.createContainer(pod, nil)
	// The engine looks at the sandbox once more when it has started, and may write what it knows after the other's.
	nstest.Eventually(t, "what the other has mended to be left alone", func() bool {
		rec, err := record.In(stateDir).Load(pod.GetId())
		if err != nil || rec.Timing.Verdict == record.Pending {
			return false
		}
		rec.Neighbors[0].LLAddr = "02:00:00:00:00:77"
		if err := record.In(stateDir).Save(rec); err != nil {
			t.Fatal(err)
		}
		mended, err := rec.Annotation()
		if err != nil || mended == "" {
			t.Fatalf("%q, %v", mended, err)
		}
		other = api.ContainerAdjustment{}
		other.AddAnnotation(annotation.Key, mended)
		before := p.said(logrus.WarnLevel)
		if got := rt.createContainer(pod, nil)[annotation.Key]; got != mended {
			t.Fatalf("annotation %q, want %q", got, mended)
		}
		return p.said(logrus.WarnLevel) == before
	})
}

// newWorker starts a pod of runc that asked for all there is.
func newWorker(t *testing.T, rt *runtime) *api.PodSandbox {
	t.Helper()
	_, pod := newPod(t, "runc", map[string]string{selection.PinAnnotation: "true", selection.FileAnnotation: "true"})
	rt.runPodSandbox(pod)
	return pod
}

func TestLiveFileIsMountedReadOnly(t *testing.T) {
	rt := newRuntime(t)
	stateDir := t.TempDir()
	rt.serve(t, stateDir)
	pod := newWorker(t, rt)
	adjusted, err := rt.tryCreate(pod, &api.Container{Mounts: []*api.Mount{
		{Destination: "/"}, {Destination: "/run", Type: "tmpfs"}, {Destination: LiveFileMount + "-of-others"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mounts := adjusted.GetMounts()
	if len(mounts) != 1 || mounts[0].Destination != LiveFileMount || mounts[0].Source != filepath.Join(stateDir, "files", pod.Id) {
		t.Fatalf("mounts %v", mounts)
	}
	for _, option := range []string{"bind", "ro", "nosuid", "nodev", "noexec"} {
		if !slices.Contains(mounts[0].Options, option) {
			t.Errorf("mounted without %s: %v", option, mounts[0])
		}
	}
	data, err := os.ReadFile(filepath.Join(mounts[0].Source, record.LiveFileName))
	if err != nil || string(data) != adjusted.GetAnnotations()[annotation.Key] {
		t.Errorf("the file says %q, %v; the annotation %q", data, err, adjusted.GetAnnotations()[annotation.Key])
	}
}

func TestLiveFileOfTwoDaemonsIsMountedOnce(t *testing.T) {
	rt := newRuntime(t)
	stateDir := t.TempDir()
	for range 2 {
		p := rt.serve(t, stateDir)
		defer func() {
			if n := p.said(logrus.WarnLevel); n != 0 {
				t.Errorf("%d complaints:\n%s", n, p.messages())
			}
		}()
	}
	pod := newWorker(t, rt)
	adjusted, err := rt.tryCreate(pod, &api.Container{})
	if err != nil || len(adjusted.GetMounts()) != 1 {
		t.Errorf("mounts %v, %v", adjusted.GetMounts(), err)
	}
}

func TestContainersWithoutRoomForTheLiveFileStartWithoutIt(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	pod := newWorker(t, rt)
	for name, mount := range map[string]*api.Mount{
		"at the place":        {Destination: LiveFileMount + "/", Source: "/srv", Type: "bind"},
		"there by a detour":   {Destination: "/run/./neighpin", Source: "/srv", Type: "bind"},
		"below it":            {Destination: LiveFileMount + "/own", Source: "/srv", Type: "bind"},
		"above it, read-only": {Destination: "/run", Source: "/srv", Type: "bind", Options: []string{"rbind", "ro"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.said(logrus.ErrorLevel)
			adjusted, err := rt.tryCreate(pod, &api.Container{Mounts: []*api.Mount{mount}})
			if err != nil {
				t.Fatal(err)
			}
			if len(adjusted.GetMounts()) != 0 || adjusted.GetAnnotations()[annotation.Key] == "" {
				t.Errorf("adjusted: %v", adjusted)
			}
			if p.said(logrus.ErrorLevel) != before+1 {
				t.Error("nobody was told")
			}
		})
	}
}

func TestLiveFileThatIsNotGrantedIsToldAndHarmsNobody(t *testing.T) {
	rt := newRuntime(t)
	p := rt.serve(t, t.TempDir())
	// It does not ask to be pinned.
	_, pod := newPod(t, "runc", map[string]string{selection.FileAnnotation: "true"})
	rt.runPodSandbox(pod)
	if adjusted, err := rt.tryCreate(pod, &api.Container{}); err != nil || len(adjusted.GetMounts()) != 0 {
		t.Errorf("adjusted: %v, %v", adjusted, err)
	}
	if !strings.Contains(p.messages(), "asks for "+selection.FileAnnotation) {
		t.Errorf("the log does not say so:\n%s", p.messages())
	}
	nstest.Eventually(t, "the plugin to go on", func() bool { return p.State().Connected })
}
