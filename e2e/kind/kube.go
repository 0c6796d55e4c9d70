// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Kube is a Kubernetes cluster as its administrator has it: a kubeconfig, kubectl and helm.
type Kube struct {
	// Kubectl and Helm are the programs' paths.
	Kubectl, Helm string
	// Environment is that of both; KUBECONFIG names the cluster.
	Environment []string
}

// Output runs kubectl and returns what it prints, without the last line feed; also where it fails, because the exit code
// of a command in a pod is kubectl's.
func (k Kube) Output(ctx context.Context, args ...string) (string, error) {
	return k.run(ctx, nil, k.Kubectl, args...)
}

// Apply applies manifests, which may be JSON or YAML.
func (k Kube) Apply(ctx context.Context, manifests string) error {
	_, err := k.run(ctx, strings.NewReader(manifests), k.Kubectl, "apply", "--filename", "-")
	return err
}

// HelmOutput runs helm with values, which may be empty, on its standard input (--values -).
func (k Kube) HelmOutput(ctx context.Context, values string, args ...string) (string, error) {
	return k.run(ctx, strings.NewReader(values), k.Helm, args...)
}

func (k Kube) run(ctx context.Context, stdin io.Reader, program string, args ...string) (string, error) {
	cmd := command(ctx, program, args...)
	cmd.Env = k.Environment
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("run %s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, tail(stdout.String()+stderr.String()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), err
}
