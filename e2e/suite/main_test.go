// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/descriptors"
	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/internal/wire"
)

// patience is how long anything that neighpin hears of may take to be done, on a machine with better things to do and with pauses of several
// seconds. It is far below the interval of the slow comparison, which would do in the end what was not heard of.
const patience = time.Minute

// bed is the node that all tests of this package share, one containerd started once, and what they measured.
var bed struct {
	*node.Node
	figures figures
}

func TestMain(m *testing.M) {
	os.Exit(enclosure.Main(prepare, func() int { return run(m) }))
}

// prepare builds what is missing, outside the enclosure, where the Go command reaches its modules.
func prepare(ctx context.Context) ([]string, error) {
	release, err := setup.ReleaseFromEnvironment()
	if err != nil {
		return nil, err
	}
	programs, err := setup.All(ctx, os.Stderr, release)
	if err != nil {
		return nil, err
	}
	if err := setup.Consumer(ctx, os.Stderr, programs.Consumer()); err != nil {
		return nil, err
	}
	if release == setup.Newest {
		if err := programs.BuildUpgrades(ctx, os.Stderr); err != nil {
			return nil, err
		}
	}
	return programs.Environment()
}

func run(m *testing.M) int {
	ctx := context.Background()
	before, err := descriptors.Open("self")
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		return 1
	}
	programs, err := setup.FromEnvironment()
	if err == nil {
		bed.Node, err = node.Start(ctx, programs, node.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		return 1
	}
	selectTests(programs.Release)
	code := m.Run()
	bed.figures.print(os.Stdout)
	if err := bed.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "suite: close the node:", err)
		code = max(code, 1)
	}
	// klog flushes its log for as long as the process lives.
	err = await.Within(ctx, patience, "all goroutines to end", func() error {
		return goleak.Find(goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		code = max(code, 1)
	}
	if err := descriptors.Closed(ctx, patience, before); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		code = max(code, 1)
	}
	return code
}

// keepLogs saves the node's logs if the test fails, and says where. Call it first.
func keepLogs(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		folder, err := bed.KeepLogs(t.Name())
		if err != nil {
			t.Error(err)
			return
		}
		t.Log("the logs of containerd, neighpin and runsc are kept in", folder)
	})
}

// runPod runs a pod and removes it at the end of the test; of one that fails the pod is described.
func runPod(t *testing.T, spec node.PodSpec) *node.Pod {
	t.Helper()
	pod, err := bed.RunPod(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(portrait(pod))
		}
		if err := pod.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return pod
}

// runContainer runs an idle container in the pod; it goes with the pod.
func runContainer(t *testing.T, pod *node.Pod) *node.Container {
	t.Helper()
	container, err := pod.Run(t.Context(), node.ContainerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	return container
}

// connect makes the container connect to every target of the node, in both families.
func connect(t *testing.T, container *node.Container) {
	t.Helper()
	out, err := container.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, " connected "); got != len(node.Targets()) {
		t.Fatalf("pod %s connected to %d of %d targets:\n%s", container.Pod.Name, got, len(node.Targets()), out)
	}
}

// capture records until the end of the test; a capture that lost messages fails it.
func capture(t *testing.T) *wire.Capture {
	t.Helper()
	c, err := wire.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// within is a context for one step.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
