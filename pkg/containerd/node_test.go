// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	version "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeNode answers what containerd 2.4 was seen to answer, shortened; the real one
// is met in the suite on containerd.
type fakeNode struct {
	introspection.UnimplementedIntrospectionServer
	cri.UnimplementedRuntimeServiceServer
	info map[string]string
}

func (*fakeNode) Server(context.Context, *emptypb.Empty) (*introspection.ServerResponse, error) {
	return &introspection.ServerResponse{Pid: 42, Pidns: 4026531836}, nil
}

func (f *fakeNode) Status(_ context.Context, request *cri.StatusRequest) (*cri.StatusResponse, error) {
	return answerTo(request, f.info), nil
}

// answerTo has what the CRI plugin says of itself only to who asks for all of it.
func answerTo(request *cri.StatusRequest, info map[string]string) *cri.StatusResponse {
	if !request.GetVerbose() {
		return &cri.StatusResponse{}
	}
	return &cri.StatusResponse{Info: info}
}

// fakeVersion is apart, since the CRI has a method of that name too.
type fakeVersion struct {
	version.UnimplementedVersionServer
}

func (fakeVersion) Version(context.Context, *emptypb.Empty) (*version.VersionResponse, error) {
	return &version.VersionResponse{Version: "v2.4.2"}, nil
}

func askNode(t *testing.T, register func(*grpc.Server)) (Node, error) {
	t.Helper()
	return connected(t, register).Node(t.Context())
}

func TestContainerdSaysWhatItIs(t *testing.T) {
	fake := &fakeNode{info: map[string]string{
		"config": `{"containerd":{"defaultRuntimeName":"runc","runtimes":{
			"runsc":{"runtimeType":"io.containerd.runsc.v1","PodAnnotations":["io.neighpin.*"],"options":{"ConfigPath":"/c"}},
			"runc":{"runtimeType":"io.containerd.runc.v2","PodAnnotations":null}}},
			"registry":{"auths":{"r":{"password":"secret"}}},"netnsMountsUnderStateDir":true,"stateDir":"/run/c"}`,
		"cniconfig":         `{"Networks":[{"IFName":"lo","Config":{"Plugins":[{"Network":{"type":"loopback"}}]}},{"IFName":"eth0","Config":{"Plugins":[{"Network":{"type":"ptp"}},{"Network":{"type":"portmap"}}]}}]}`,
		"lastCNILoadStatus": "OK",
	}}
	node, err := askNode(t, func(s *grpc.Server) {
		version.RegisterVersionServer(s, fakeVersion{})
		introspection.RegisterIntrospectionServer(s, fake)
		cri.RegisterRuntimeServiceServer(s, fake)
	})
	if err != nil {
		t.Fatal(err)
	}
	if node.Version != "2.4.2" || node.PID != 42 || node.PIDNS != 4026531836 || !node.CRI || node.DefaultRuntime != "runc" ||
		node.NetNSDir != "/run/c/netns" || node.CNIStatus != "OK" || !slices.Equal(node.CNI, []string{"ptp", "portmap"}) {
		t.Errorf("%+v", node)
	}
	if len(node.Runtimes) != 2 || node.Runtimes[1].Name != "runsc" || node.Runtimes[1].Type != "io.containerd.runsc.v1" ||
		!slices.Equal(node.Runtimes[1].PodAnnotations, []string{"io.neighpin.*"}) {
		t.Errorf("runtimes %+v", node.Runtimes)
	}
}

func TestWhatContainerdDoesNotAnswerCostsNoOther(t *testing.T) {
	fake := &fakeNode{info: map[string]string{"config": "{"}}
	node, err := askNode(t, func(s *grpc.Server) {
		introspection.RegisterIntrospectionServer(s, fake)
		cri.RegisterRuntimeServiceServer(s, fake)
	})
	if err == nil || !strings.Contains(err.Error(), "ask version") || !strings.Contains(err.Error(), "decode configuration") {
		t.Errorf("error %v", err)
	}
	if node.PID != 42 || node.CRI || node.Version != "" {
		t.Errorf("%+v", node)
	}
}

func TestWhoAnswersOnlyItsVersionIsNamedByIt(t *testing.T) {
	node, err := askNode(t, func(s *grpc.Server) { version.RegisterVersionServer(s, fakeVersion{}) })
	if err == nil || !strings.Contains(err.Error(), "ask process") || !strings.Contains(err.Error(), "ask CRI plugin") {
		t.Errorf("error %v", err)
	}
	if node.Version != "2.4.2" || node.CRI {
		t.Errorf("%+v", node)
	}
}

func TestThatNobodyIsThereIsSaidOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "absent")
	if _, err := open(t, socket).Node(t.Context()); err == nil || strings.Count(err.Error(), "containerd at "+socket) != 1 {
		t.Errorf("error %v, want one that names %s once", err, socket)
	}
}

func TestHandlersComeInTheOrderOfTheirNames(t *testing.T) {
	var node Node
	if err := node.readCRI(map[string]string{"config": `{"containerd":{"runtimes":{"e":{},"b":{},"g":{},"a":{},"d":{},"h":{},"f":{},"c":{}}}}`}); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(node.Runtimes, func(a, b Runtime) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("runtimes %+v", node.Runtimes)
	}
}
