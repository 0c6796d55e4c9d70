// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// containerdConfig differs from containerd's defaults in its folders, the runtimes, NRI, which 1.7 does not serve by
// itself, in what a machine without CAP_SYS_RESOURCE refuses: OOM scores below one's own, and in how long shims are waited for: two to five
// seconds, after which a sandbox counts as dead, are too few on a machine that stands still for seconds at times. runsc gets what a pod or
// container says under neighpin's own prefix, as an operator may allow who has not thought of forgers.
//
// Releases differ in the names: 1.7 has one plugin for all of the CRI, and CNI's folder is bin_dir in 1.7 and 2.0 and
// bin_dirs from 2.1 on.
var containerdConfig = template.Must(template.New("containerd").Parse(`version = {{if eq .Release "1.7"}}2{{else}}3{{end}}
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"
[grpc]
  address = "{{.Socket}}"
[timeouts]
  "io.containerd.timeout.shim.load" = "30s"
  "io.containerd.timeout.shim.cleanup" = "1m"
  "io.containerd.timeout.shim.shutdown" = "1m"
  "io.containerd.timeout.task.state" = "1m"
[plugins."io.containerd.internal.v1.opt"]
  path = "{{.Dir}}/opt"
[plugins."io.containerd.image-verifier.v1.bindir"]
  bin_dir = "{{.Dir}}/verifier"
{{- if ne .Release "1.7"}}
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{{.Pause}}"
{{- end}}
[plugins."{{.CRI}}"]
  restrict_oom_score_adj = true
{{- if .NetNSInStateDir}}
  netns_mounts_under_state_dir = true
{{- end}}
{{- if eq .Release "1.7"}}
  sandbox_image = "{{.Pause}}"
{{- end}}
[plugins."{{.CRI}}".cni]
{{- if or (eq .Release "1.7") (eq .Release "2.0")}}
  bin_dir = "{{.Dir}}/cni-bin"
{{- else}}
  bin_dirs = ["{{.Dir}}/cni-bin"]
{{- end}}
  conf_dir = "{{.Dir}}/cni"
[plugins."{{.CRI}}".containerd]
  default_runtime_name = "{{.Default}}"
[plugins."{{.CRI}}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
{{- if .Runc}}
  [plugins."{{.CRI}}".containerd.runtimes.runc.options]
    BinaryName = "{{.Runc}}"
{{- end}}
[plugins."{{.CRI}}".containerd.runtimes.runsc]
  runtime_type = "io.containerd.runsc.v1"
  pod_annotations = ["io.neighpin.*"]
  container_annotations = ["io.neighpin.*"]
  [plugins."{{.CRI}}".containerd.runtimes.runsc.options]
    TypeUrl = "io.containerd.runsc.v1.options"
    ConfigPath = "{{.Dir}}/runsc.toml"
[plugins."io.containerd.nri.v1.nri"]
  disable = {{.NRIDisabled}}
  socket_path = "{{.NRI}}"
  plugin_path = "{{.Plugins}}"
  plugin_config_path = "{{.Configs}}"
`))

// runscConfig makes runsc write down what it reads from the pod's namespace, a folder per sandbox.
var runscConfig = template.Must(template.New("runsc").Parse(`{{if .Runsc}}binary_name = "{{.Runsc}}"
{{end}}[runsc_config]
  platform = "systrap"
  ignore-cgroups = "true"
{{- if not .RunscQuiet}}
  debug = "true"
  debug-log = "{{.Dir}}/logs/runsc/%ID%/%COMMAND%.log"
{{- end}}
`))

// configureContainerd writes containerd's configuration and that of gVisor's shim.
func (n *Node) configureContainerd() error {
	cri := "io.containerd.cri.v1.runtime"
	if n.Release() == "1.7" {
		cri = "io.containerd.grpc.v1.cri"
	}
	values := map[string]any{
		"Release": n.Release(), "CRI": cri,
		"Dir": dir, "Socket": ContainerdSocket, "Pause": pauseImage, "Default": cmp.Or(n.options.DefaultRuntime, "runc"),
		"NRI": NRISocket, "NRIDisabled": n.options.NRIDisabled, "Plugins": pluginDir, "Configs": pluginConfigDir,
		"Runc": n.options.Runc, "Runsc": n.options.Runsc, "NetNSInStateDir": n.options.NetNSInStateDir,
		"RunscQuiet": n.options.RunscQuiet,
	}
	for name, t := range map[string]*template.Template{"containerd.toml": containerdConfig, "runsc.toml": runscConfig} {
		var text strings.Builder
		if err := t.Execute(&text, values); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.String()), 0o644); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	return nil
}
