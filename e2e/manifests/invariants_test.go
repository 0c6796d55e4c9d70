// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestDefaultPrivileges(t *testing.T) {
	d := open(t)
	for name, all := range map[string]objects{
		"chart": template(t, d), "kustomization": kustomize(t, d.Path("deploy/base")), "install.yaml": decode(t, read(t, d.Path(installDoc))),
	} {
		t.Run(name, func(t *testing.T) {
			checkInvariants(t, all)
			if got, want := capabilities(t, all), []string{"NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"}; !slices.Equal(got, want) {
				t.Errorf("capabilities %q, want %q", got, want)
			}
			want := map[string]string{
				"/run/neighpin": "None", "/var/run/nri": "None", "/run/containerd": "HostToContainer", "/var/run/netns": "HostToContainer", "/var/lib/cni": "None",
			}
			if diff := cmp.Diff(want, hostMounts(t, all)); diff != "" {
				t.Errorf("mounts of the host's folders (- want, + got):\n%s", diff)
			}
			if got := rights(all); len(got) != 0 {
				t.Errorf("it has rights at the API server: %q", got.names())
			}
			if spec := one[*appsv1.DaemonSet](t, all).Spec.Template.Spec; *spec.AutomountServiceAccountToken {
				t.Error("a token of the API server is mounted")
			}
		})
	}
}

func TestCapabilitiesFollowTheConfiguration(t *testing.T) {
	d := open(t)
	for set, want := range map[string][]string{
		"config.learned=off":                         {"NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"},
		"config.learned=probe":                       {"NET_ADMIN", "NET_BROADCAST", "NET_RAW", "SYS_ADMIN"},
		"config.observe=true":                        {"BPF", "NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"},
		"config.observe=true,config.learned=probe":   {"BPF", "NET_ADMIN", "NET_BROADCAST", "NET_RAW", "SYS_ADMIN"},
		"config.enforce=true,config.hostState=clean": {"NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"},
	} {
		all := template(t, d, "--set", set)
		if got := capabilities(t, all); !slices.Equal(got, want) {
			t.Errorf("%s: capabilities %q, want %q", set, got, want)
		}
		checkInvariants(t, all)
	}
}

// checkInvariants looks for what holds whatever the values are.
func checkInvariants(t *testing.T, all objects) {
	t.Helper()
	set := one[*appsv1.DaemonSet](t, all)
	spec, c := set.Spec.Template.Spec, container(t, all)
	fault := func(bad bool, what string) {
		t.Helper()
		if bad {
			t.Error(what)
		}
	}
	security := c.SecurityContext
	fault(*security.Privileged || *security.AllowPrivilegeEscalation, "the container is privileged, or may become so")
	fault(!*security.ReadOnlyRootFilesystem, "its root is writable")
	fault(!slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}), "it keeps capabilities that it does not name")
	for _, name := range security.Capabilities.Add {
		known := []corev1.Capability{"SYS_ADMIN", "NET_ADMIN", "NET_BROADCAST", "NET_RAW", "BPF"}
		fault(!slices.Contains(known, name), "it adds the capability "+string(name))
	}
	fault(spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault, "seccomp is not the runtime's default")
	fault(spec.HostPID || spec.HostIPC || !spec.HostNetwork, "it shares with the host what it should not, or not the network")
	fault(len(c.Ports) != 0, "it declares a port, so that a second pod finds no place beside it")
	fault(!c.Resources.Limits.Cpu().IsZero(), "its processor time is limited")
	fault(c.Resources.Requests.Memory().IsZero(), "it requests no memory")
	fault(!slices.Equal(c.Args, []string{"plugin", "--config=/etc/neighpin/neighpin.yaml"}) || c.Command != nil, "it runs something else")
	fault(set.Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntValue() != 1 || set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue() != 0,
		"an update leaves nodes without it")
	fault(spec.PriorityClassName != "system-node-critical", "it may be evicted")
	fault(!slices.Equal(spec.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}), "a taint keeps it away")
	fault(set.Namespace != Namespace, "it is in the namespace "+set.Namespace)
	for name, p := range map[string]*corev1.Probe{"ready": c.ReadinessProbe, "live": c.LivenessProbe} {
		want := []string{"/neighpin", "status", "--" + name}
		fault(p.Exec == nil || !slices.Equal(p.Exec.Command, want), "its probe does not run "+strings.Join(want, " "))
	}
	// With readiness as its condition to start, a node without NRI would restart it for ever.
	fault(!slices.Equal(c.StartupProbe.Exec.Command, c.LivenessProbe.Exec.Command), "to have started is another thing than to live")
	hostMounts(t, all)
}

// hostMounts is how each of the host's folders is mounted.
func hostMounts(t *testing.T, all objects) map[string]string {
	t.Helper()
	mounts := map[string]corev1.VolumeMount{}
	for _, m := range container(t, all).VolumeMounts {
		mounts[m.Name] = m
	}
	found := map[string]string{}
	for _, v := range one[*appsv1.DaemonSet](t, all).Spec.Template.Spec.Volumes {
		if v.HostPath == nil {
			continue
		}
		m, ok := mounts[v.Name]
		switch {
		case !ok:
			t.Errorf("volume %s is mounted nowhere", v.Name)
		case m.MountPath != v.HostPath.Path:
			t.Errorf("%s is %s in the container", v.HostPath.Path, m.MountPath)
		case *v.HostPath.Type != corev1.HostPathDirectoryOrCreate || filepath.Ext(v.HostPath.Path) == ".sock":
			t.Errorf("%s is mounted as %s: a socket is made anew when its owner starts", v.HostPath.Path, *v.HostPath.Type)
		case !m.ReadOnly && v.Name != "state":
			t.Errorf("%s is writable", v.HostPath.Path)
		}
		found[v.HostPath.Path] = "None"
		if m.MountPropagation != nil {
			found[v.HostPath.Path] = string(*m.MountPropagation)
		}
	}
	return found
}
