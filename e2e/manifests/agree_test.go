// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestGeneratedFilesAreCurrent(t *testing.T) {
	d := open(t)
	files, err := d.Generated(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if diff := cmp.Diff(read(t, d.Path(name)), want); diff != "" {
			t.Errorf("%s is not current, run make manifests (- is, + should be):\n%s", name, diff)
		}
	}
}

func TestChartInstallYAMLAndKustomizationAgree(t *testing.T) {
	d := open(t)
	binary := buildNeighpin(t, d)
	chart := comparable(t, binary, template(t, d))
	install := comparable(t, binary, decode(t, read(t, d.Path(installDoc))))
	base := comparable(t, binary, kustomize(t, d.Path("deploy/base")))
	if diff := cmp.Diff(base, install); diff != "" {
		t.Errorf("install.yaml differs from the kustomization (- kustomization, + install.yaml):\n%s", diff)
	}
	// Helm makes the namespace by a flag of its own.
	delete(install, "Namespace/neighpin")
	if diff := cmp.Diff(install, chart); diff != "" {
		t.Errorf("the chart differs from install.yaml (- install.yaml, + chart):\n%s", diff)
	}

	// The comparison sees a difference in each of the objects that there are to compare.
	for _, change := range []string{"config.enforce=true", "image.tag=v9", "serviceAccount.annotations.a=b"} {
		if cmp.Equal(chart, comparable(t, binary, template(t, d, "--set", change))) {
			t.Errorf("%s makes no difference to the comparison", change)
		}
	}
}

// comparable takes away what is not meant to agree: who made the objects, and how a changed configuration becomes a rolling
// update, by the ConfigMap's name or by an annotation. Of the configuration itself it leaves what the daemon understands.
func comparable(t *testing.T, binary string, all objects) objects {
	t.Helper()
	same := objects{}
	hash := regexp.MustCompile(`^neighpin-[a-z0-9]{10}$`)
	for name, o := range all {
		labels := o.(metav1.Object).GetLabels()
		for _, key := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
			delete(labels, key)
		}
		switch o := o.(type) {
		case *corev1.ServiceAccount:
			o.Labels = nil
		case *corev1.ConfigMap:
			o.Labels, o.Name = nil, hash.ReplaceAllString(o.Name, "neighpin")
			name = "ConfigMap/" + o.Name
			o.Data["neighpin.yaml"] = effective(t, binary, o.Data["neighpin.yaml"])
		case *appsv1.DaemonSet:
			delete(o.Spec.Template.Annotations, "checksum/config")
			for i := range o.Spec.Template.Spec.Volumes {
				if v := &o.Spec.Template.Spec.Volumes[i]; v.ConfigMap != nil {
					v.ConfigMap.Name = hash.ReplaceAllString(v.ConfigMap.Name, "neighpin")
				}
			}
		}
		same[name] = o
	}
	return same
}

func TestAChangedConfigurationIsARollingUpdate(t *testing.T) {
	d := open(t)
	checksum := func(args ...string) string {
		return one[*appsv1.DaemonSet](t, template(t, d, args...)).Spec.Template.Annotations["checksum/config"]
	}
	before := checksum()
	if before == "" || before != checksum("--set", "image.pullPolicy=Always") || before == checksum("--set", "config.logLevel=debug") {
		t.Errorf("the pods' checksum is %q, want one that follows the configuration and nothing else", before)
	}
}

// The rights that a setting brings are the chart's and the component's alike.
func TestComponentsAgreeWithTheChart(t *testing.T) {
	d := open(t)
	for _, c := range []struct {
		component, set, env, value string
	}{
		{"learned", "config.learned=probe", "NEIGHPIN_LEARNED", "probe"},
		{"observe", "config.observe=true", "NEIGHPIN_OBSERVE", "true"},
		{"events", "config.events=true", "NEIGHPIN_EVENTS", "true"},
	} {
		t.Run(c.component, func(t *testing.T) {
			component, chart := overlay(t, d, c.component), template(t, d, "--set", c.set)
			if diff := cmp.Diff(capabilities(t, chart), capabilities(t, component)); diff != "" {
				t.Errorf("capabilities (- chart, + component):\n%s", diff)
			}
			if !slices.Contains(container(t, component).Env, corev1.EnvVar{Name: c.env, Value: c.value}) {
				t.Errorf("the component does not set %s to %s: %v", c.env, c.value, container(t, component).Env)
			}
			token := func(all objects) *bool {
				return one[*appsv1.DaemonSet](t, all).Spec.Template.Spec.AutomountServiceAccountToken
			}
			if diff := cmp.Diff(token(chart), token(component)); diff != "" {
				t.Errorf("token (- chart, + component):\n%s", diff)
			}
			if diff := cmp.Diff(rights(chart), rights(component)); diff != "" {
				t.Errorf("rights (- chart, + component):\n%s", diff)
			}
		})
	}
	all := overlay(t, d, "events", "learned", "observe")
	if got, want := capabilities(t, all), []string{"BPF", "NET_ADMIN", "NET_BROADCAST", "NET_RAW", "SYS_ADMIN"}; !slices.Equal(got, want) {
		t.Errorf("capabilities with all components are %q, want %q", got, want)
	}
	if got := len(container(t, all).Env); got < 3 {
		t.Errorf("components take each other's variables away: %v", container(t, all).Env)
	}
}

// rights is what the API server grants.
func rights(all objects) objects {
	found := objects{}
	for name, o := range all {
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			o.Labels = nil
		case *rbacv1.ClusterRoleBinding:
			o.Labels = nil
		case *rbacv1.Role, *rbacv1.RoleBinding:
		default:
			continue
		}
		found[name] = o
	}
	return found
}
