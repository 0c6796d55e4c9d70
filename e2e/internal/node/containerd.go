// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criclient "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// callLimit ends a CRI call. A pod whose network takes five seconds on a busy machine is far below it.
const callLimit = 60 * time.Second

// StartContainerd starts containerd and waits until its CRI has a network.
func (n *Node) StartContainerd(ctx context.Context) error {
	if err := n.installPlugins(); err != nil {
		return err
	}
	if err := n.configureContainerd(); err != nil {
		return err
	}
	path := strings.Join([]string{n.programs.Containerd, n.programs.GVisor, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")
	var err error
	n.containerd, err = startProcess("containerd", filepath.Join(n.LogDir(), "containerd.log"), []string{"PATH=" + path},
		filepath.Join(n.programs.Containerd, "containerd"), "--config", filepath.Join(dir, "containerd.toml"))
	if err != nil {
		return err
	}
	return n.connect(ctx)
}

// connect waits for the CRI, which containerd serves seconds after its socket answers.
func (n *Node) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(quiet(ctx), startLimit)
	defer cancel()
	endpoint := "unix://" + ContainerdSocket
	// A connection of our own asks first: the CRI client's constructor fails, and keeps its connection, where
	// nobody answers yet.
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(impatient))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := criapi.NewRuntimeServiceClient(connection)
	err = await.Condition(ctx, "containerd's CRI", func() error {
		if err := n.containerd.running(); err != nil {
			cancel()
			return err
		}
		return ready(ctx, client)
	})
	if err != nil {
		return err
	}
	n.runtime, err = criclient.NewRemoteRuntimeServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(callLimit).WithTracerProvider(nil).Build(ctx)
	if err != nil {
		return err
	}
	n.images, err = criclient.NewRemoteImageServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(callLimit).WithTracerProvider(nil).Build(ctx)
	return err
}

// impatient tries again sooner than a client of a remote server would.
var impatient = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: await.Interval, Multiplier: 1, MaxDelay: await.Interval},
	MinConnectTimeout: time.Second,
}

// ready returns nil once the runtime and its network are.
func ready(ctx context.Context, client criapi.RuntimeServiceClient) error {
	response, err := client.Status(ctx, &criapi.StatusRequest{})
	if err != nil {
		return err
	}
	met := map[string]bool{}
	for _, condition := range response.Status.Conditions {
		met[condition.Type] = condition.Status
	}
	if !met[criapi.RuntimeReady] || !met[criapi.NetworkReady] {
		return fmt.Errorf("conditions are %v", response.Status.Conditions)
	}
	return nil
}

// quiet keeps the CRI client from logging errors, all of which it also returns.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

// StopContainerd stops containerd and leaves pods running, as a service manager does.
func (n *Node) StopContainerd(ctx context.Context) error {
	if n.containerd == nil {
		return nil
	}
	var errs []error
	if n.runtime != nil {
		errs = append(errs, n.runtime.Close(quiet(ctx)))
		n.runtime = nil
	}
	if n.images != nil {
		errs = append(errs, n.images.Close(quiet(ctx)))
		n.images = nil
	}
	errs = append(errs, n.containerd.stop(ctx, stopLimit))
	n.containerd = nil
	return errors.Join(errs...)
}

// KillContainerd ends containerd with SIGKILL, also while it serves calls, which fail. RestartContainerd brings it back.
func (n *Node) KillContainerd() { n.containerd.kill() }

// Stacks asks containerd what its goroutines are doing; the answer is in its log, too.
func (n *Node) Stacks(ctx context.Context) (string, error) {
	const begin, end = "=== BEGIN goroutine stack dump ===", "=== END goroutine stack dump ==="
	before, err := os.ReadFile(n.containerd.log)
	if err != nil {
		return "", err
	}
	if err := n.containerd.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return "", fmt.Errorf("ask containerd for its goroutines: %w", err)
	}
	var stacks string
	err = await.Within(ctx, startLimit, "the goroutines of containerd", func() error {
		log, err := os.ReadFile(n.containerd.log)
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(string(log[len(before):]), begin)
		var complete bool
		if stacks, _, complete = strings.Cut(rest, end); !complete {
			return errors.New("they are not in its log yet")
		}
		return nil
	})
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(stacks), err
}

// RestartContainerd stops and starts containerd, with other options if change is not nil.
func (n *Node) RestartContainerd(ctx context.Context, change func(*Options)) error {
	if err := n.StopContainerd(ctx); err != nil {
		return err
	}
	if change != nil {
		change(&n.options)
	}
	return n.StartContainerd(ctx)
}

// ChangeRelease stops containerd and starts another release of it on the same folders, as an upgrade in place does, or a
// downgrade. Pods stay up. The release is one of Containerds in [setup.Programs].
func (n *Node) ChangeRelease(ctx context.Context, release string) error {
	programs, err := n.programs.Of(release)
	if err != nil {
		return err
	}
	if err := n.StopContainerd(ctx); err != nil {
		return err
	}
	n.programs = programs
	return n.StartContainerd(ctx)
}
