// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-runsc-v1 is gVisor's containerd shim for machines that withhold CAP_SYS_RESOURCE.
//
// gVisor's own main lowers the shim's OOM score to -999 and gives up when the kernel refuses. Containers of
// CI systems are refused. Everything that matters to a test is in gVisor's packages and is used from there;
// only the start of the shim's process is written anew here, with the refusal tolerated. Users of neighpin
// run the stock shim.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	runsc "gvisor.dev/gvisor/pkg/shim/v1"
	// Registers the task service that the shim serves.
	_ "gvisor.dev/gvisor/pkg/shim/v1/plugin"
)

const (
	runtimeName = "io.containerd.runsc.v1"
	// oomScore is what gVisor's own main asks for.
	oomScore = -999
)

func main() {
	shim.Run(context.Background(), manager{Manager: runsc.NewShimManager(runtimeName)})
}

// manager is gVisor's shim manager with a Start of its own.
type manager struct {
	shim.Manager
}

// Start runs this binary again as the server of one sandbox. containerd 2.x hands the address on to the
// sandbox's containers itself, so the grouping by annotation of older versions is not repeated here.
func (m manager) Start(ctx context.Context, id string, opts shim.StartOpts) (shim.BootstrapParams, error) {
	params := shim.BootstrapParams{Version: 2, Protocol: "ttrpc"}
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return params, err
	}
	params.Address, err = shim.SocketAddress(ctx, opts.Address, id, opts.Debug)
	if err != nil {
		return params, fmt.Errorf("name the shim's socket: %w", err)
	}
	socket, err := listen(params.Address)
	if err != nil {
		return params, fmt.Errorf("listen on the shim's socket %s: %w", params.Address, err)
	}
	defer socket.Close()

	cmd, err := serve(namespace, id, opts)
	if err != nil {
		return params, err
	}
	cmd.ExtraFiles = []*os.File{socket}
	if err := cmd.Start(); err != nil {
		_ = shim.RemoveSocket(params.Address)
		return params, fmt.Errorf("start the shim's server: %w", err)
	}
	if err := announce(cmd.Process.Pid, params.Address); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = shim.RemoveSocket(params.Address)
		return params, err
	}
	return params, nil
}

// listen returns the descriptor that the server inherits; a socket left by a dead shim is replaced.
func listen(address string) (*os.File, error) {
	listener, err := shim.NewSocket(address)
	if err != nil && shim.SocketEaddrinuse(err) && !shim.CanConnect(address) {
		if err := shim.RemoveSocket(address); err != nil {
			return nil, err
		}
		listener, err = shim.NewSocket(address)
	}
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	return listener.File()
}

// serve is the command line of the shim's long-lived process: the same binary without an action.
func serve(namespace, id string, opts shim.StartOpts) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the shim's own binary: %w", err)
	}
	args := []string{"-namespace", namespace, "-address", opts.Address, "-id", id}
	if opts.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// announce leaves what containerd looks for in the bundle, and asks the kernel to spare the shim if it may.
func announce(pid int, address string) error {
	if err := shim.WritePidFile("shim.pid", pid); err != nil {
		return fmt.Errorf("write shim.pid: %w", err)
	}
	if err := os.WriteFile("address", []byte(address), 0o644); err != nil {
		return fmt.Errorf("write the shim's address: %w", err)
	}
	path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	err := os.WriteFile(path, []byte(strconv.Itoa(oomScore)), 0)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("spare the shim from the OOM killer: %w", err)
	}
	if err != nil {
		log.L.WithError(err).Debug("the kernel refuses the shim's OOM score; going on without")
	}
	return nil
}
