// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
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
	return k.kubectl(ctx, "", args...)
}

// Apply applies manifests, which may be JSON or YAML.
func (k Kube) Apply(ctx context.Context, manifests string) error {
	_, err := k.kubectl(ctx, manifests, "apply", "--filename", "-")
	return err
}

// away is what kubectl says of an API server, or of the etcd behind it, that has too much to do at the moment. A node's disk and two processors
// bear a whole control plane here, and none of this is neighpin's.
var away = regexp.MustCompile(`etcdserver: (request timed out|leader changed)|The connection to the server \S+ was refused|net/http: TLS handshake timeout|http2: client connection lost`)

// kubectl runs kubectl, again where nobody was there to serve it.
func (k Kube) kubectl(ctx context.Context, stdin string, args ...string) (output string, err error) {
	const limit, pause = time.Minute, time.Second
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_ = await.Every(bounded, pause, "the API server", func() error {
		if output, err = k.run(ctx, strings.NewReader(stdin), k.Kubectl, args...); err != nil && away.MatchString(err.Error()) {
			return err
		}
		return nil
	})
	return output, err
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
