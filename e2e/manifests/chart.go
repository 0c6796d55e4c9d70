// SPDX-License-Identifier: Apache-2.0

// Package manifests renders what stands in deploy/: the Helm chart by Helm itself, the kustomizations by kustomize's
// own library, and from the chart the file deploy/install.yaml, all with the release of the file VERSION. Its tests compare
// the three.
package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

const (
	// Release and Namespace are what the documents install the chart as, and what deploy/install.yaml was rendered with.
	Release, Namespace = "neighpin", "neighpin"

	chartDir   = "deploy/helm/neighpin"
	installDoc = "deploy/install.yaml"
)

// Deploy is a checkout's deploy/, with the Helm that renders its chart. It is safe for concurrent use.
type Deploy struct {
	// Root is the checkout.
	Root string
	// Helm is Helm's program.
	Helm string
}

// Open finds the checkout around the working directory, and builds Helm unless the cache has it, on which it reports.
func Open(ctx context.Context, progress io.Writer) (Deploy, error) {
	root, err := parts.Root()
	if err != nil {
		return Deploy{}, err
	}
	builder, err := parts.NewBuilder(progress)
	if err != nil {
		return Deploy{}, err
	}
	helm, err := builder.Build(ctx, "helm")
	if err != nil {
		return Deploy{}, err
	}
	return Deploy{Root: filepath.Dir(root), Helm: helm.Path("helm")}, nil
}

// Path is a file of the checkout.
func (d Deploy) Path(name string) string { return filepath.Join(d.Root, name) }

// Template renders the chart as Release in Namespace; args are more arguments of `helm template`. The error of values that
// the chart refuses is what Helm prints.
func (d Deploy) Template(ctx context.Context, args ...string) (string, error) {
	return d.template(ctx, d.Path(chartDir), args...)
}

func (d Deploy) template(ctx context.Context, chart string, args ...string) (string, error) {
	return d.run(ctx, append([]string{"template", Release, chart, "--namespace", Namespace}, args...)...)
}

// Lint runs `helm lint --strict` over the chart.
func (d Deploy) Lint(ctx context.Context, args ...string) (string, error) {
	return d.run(ctx, append([]string{"lint", "--strict", d.Path(chartDir)}, args...)...)
}

func (d Deploy) run(ctx context.Context, args ...string) (string, error) {
	return d.runWith(ctx, nil, args...)
}

// runWith is run with further variables in Helm's environment.
func (d Deploy) runWith(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.Helm, args...)
	// Neither plugins nor repositories nor the cluster of whoever runs this.
	empty := filepath.Join(os.TempDir(), "neighpin-helm-has-none")
	cmd.Env = []string{"HOME=" + empty, "HELM_PLUGINS=" + empty, "KUBECONFIG=" + empty, "PATH=" + os.Getenv("PATH")}
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), fmt.Errorf("helm %s: %w: %s%s", args[0], exit, stderr.String(), out)
	}
	if err != nil {
		return "", fmt.Errorf("helm %s: %w", args[0], err)
	}
	return string(out), nil
}

// installHead goes before what is rendered.
const installHead = `# SPDX-License-Identifier: Apache-2.0
#
# neighpin for every node: kubectl apply -f install.yaml
#
# Made by "make manifests" from deploy/helm/neighpin with its default values, and deploy/base/namespace.yaml: change those.
`

// Install is what deploy/install.yaml has to hold.
func (d Deploy) Install(ctx context.Context) (string, error) {
	return d.InstallOf(ctx, d.Path(chartDir))
}

// InstallOf is the same for a chart elsewhere, such as a package.
func (d Deploy) InstallOf(ctx context.Context, chart string) (string, error) {
	namespace, err := os.ReadFile(d.Path("deploy/base/namespace.yaml"))
	if err != nil {
		return "", fmt.Errorf("read the namespace's manifest: %w", err)
	}
	rendered, err := d.template(ctx, chart)
	if err != nil {
		return "", err
	}
	// Nobody manages these objects with Helm.
	var lines []string
	for line := range strings.Lines(rendered) {
		switch text := strings.TrimSpace(line); {
		case text == "app.kubernetes.io/managed-by: Helm", strings.HasPrefix(text, "helm.sh/chart: "):
		case strings.HasPrefix(text, "# Source: "), text == "":
		default:
			lines = append(lines, line)
		}
	}
	_, body, _ := strings.Cut(string(namespace), "\n\n")
	return installHead + "---\n" + body + strings.Join(lines, ""), nil
}

// Generated is what is made from other files: the content of each, by its path in the checkout.
func (d Deploy) Generated(ctx context.Context) (map[string]string, error) {
	files, err := d.stamped()
	if err != nil {
		return nil, err
	}
	if files[installDoc], err = d.Install(ctx); err != nil {
		return nil, err
	}
	// A chart is packaged without what stands beside it, and Helm has something to say about each symbolic link.
	for _, name := range []string{"prometheusrule.yaml", "dashboard.json"} {
		data, err := os.ReadFile(d.Path("deploy/observability/" + name))
		if err != nil {
			return nil, fmt.Errorf("copy %s into the chart: %w", name, err)
		}
		files[chartDir+"/files/"+name] = string(data)
	}
	return files, nil
}

// Write makes the generated files: first those from which others are rendered.
func (d Deploy) Write(ctx context.Context) error {
	stamped, err := d.stamped()
	if err != nil {
		return err
	}
	if err := d.write(stamped); err != nil {
		return err
	}
	files, err := d.Generated(ctx)
	if err != nil {
		return err
	}
	return d.write(files)
}

func (d Deploy) write(files map[string]string) error {
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(d.Path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(d.Path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
