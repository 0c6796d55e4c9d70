// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// open is Open for a test.
func open(t *testing.T) Deploy {
	t.Helper()
	d, err := Open(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// template is Deploy.Template with values that the chart takes.
func template(t *testing.T, d Deploy, args ...string) objects {
	t.Helper()
	text, err := d.Template(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// kustomize renders a folder, which may be one of the test's own.
func kustomize(t *testing.T, dir string) objects {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text))
}

// overlay is a kustomization of a user's: the base with components.
func overlay(t *testing.T, d Deploy, components ...string) objects {
	t.Helper()
	dir := t.TempDir()
	// kustomize takes no absolute paths, and follows no links.
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Rel(real, d.Path("deploy"))
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: neighpin\nresources: [" + deploy + "/base]\ncomponents:\n"
	for _, c := range components {
		text += "  - " + deploy + "/components/" + c + "\n"
	}
	write(t, filepath.Join(dir, "kustomization.yaml"), text)
	return kustomize(t, dir)
}

// objects are by kind and name.
type objects map[string]runtime.Object

// decode reads YAML strictly: a field that its type does not have is an error.
func decode(t *testing.T, text string) objects {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, nodev1.AddToScheme,
		admissionregistrationv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	found := objects{}
	for _, doc := range regexp.MustCompile(`(?m)^---$`).Split(text, -1) {
		if !regexp.MustCompile(`(?m)^[^#\s]`).MatchString(doc) {
			continue
		}
		object, kind, err := decoder.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatalf("decode: %v\n%s", err, doc)
		}
		found[kind.Kind+"/"+object.(metav1.Object).GetName()] = object
	}
	return found
}

func (o objects) names() []string {
	var names []string
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// one is the only object of a type.
func one[T runtime.Object](t *testing.T, all objects) T {
	t.Helper()
	var found []T
	for _, o := range all {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T among %q, want one", len(found), *new(T), all.names())
	}
	return found[0]
}

// container is the DaemonSet's only one.
func container(t *testing.T, all objects) corev1.Container {
	t.Helper()
	spec := one[*appsv1.DaemonSet](t, all).Spec.Template.Spec
	if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
		t.Fatalf("%d containers and %d to begin with, want one and none", len(spec.Containers), len(spec.InitContainers))
	}
	return spec.Containers[0]
}

func capabilities(t *testing.T, all objects) []string {
	t.Helper()
	var names []string
	for _, name := range container(t, all).SecurityContext.Capabilities.Add {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// buildNeighpin builds the daemon as it is now.
func buildNeighpin(t *testing.T, d Deploy) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "neighpin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./plugin")
	cmd.Dir, cmd.Env = d.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build neighpin: %v\n%s", err, out)
	}
	return binary
}

// effective is what the daemon makes of a configuration: every key, in one form.
func effective(t *testing.T, binary, config string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "neighpin.yaml")
	write(t, path, config)
	cmd := exec.CommandContext(t.Context(), binary, "config", "--config", path)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NEIGHPIN_") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("neighpin config: %v: %s\nof\n%s", err, out, config)
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// valuesFiles are the examples of deploy/values.
func valuesFiles(t *testing.T, d Deploy) []string {
	t.Helper()
	files, err := filepath.Glob(d.Path("deploy/values/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of values: %v", err)
	}
	return files
}
