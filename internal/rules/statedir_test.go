// SPDX-License-Identifier: Apache-2.0

package rules

import "testing"

// volumes are a workload's folders of the host, and where its containers see them.
type volumes struct {
	Spec struct {
		Template struct {
			Spec struct {
				Containers []struct {
					VolumeMounts []struct {
						Name      string `json:"name"`
						MountPath string `json:"mountPath"`
					} `json:"volumeMounts"`
				} `json:"containers"`
				Volumes []struct {
					Name     string `json:"name"`
					HostPath struct {
						Path string `json:"path"`
					} `json:"hostPath"`
				} `json:"volumes"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// The runtime mounts folders of the state directory into containers, by the path
// that neighpin knows them by.
func TestManifestsShowTheStateDirectoryAtItsOwnPath(t *testing.T) {
	seen := 0
	for name, w := range decoded[volumes](t) {
		for _, v := range w.Spec.Template.Spec.Volumes {
			if v.Name != "state" {
				continue
			}
			for _, c := range w.Spec.Template.Spec.Containers {
				for _, m := range c.VolumeMounts {
					if m.Name != v.Name {
						continue
					}
					seen++
					if m.MountPath != v.HostPath.Path {
						t.Errorf("%s: the host's %s is %s in the container", name, v.HostPath.Path, m.MountPath)
					}
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no manifest mounts a volume named state")
	}
}
