// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"strings"
	"testing"
)

// What Helm says of a value that the chart does not take: where it stands, and what was wanted.
func TestWrongValuesAreRefusedWithASentence(t *testing.T) {
	d := open(t)
	for set, want := range map[string]string{
		// Names of values.
		"confg.learned=probe":      "at '': additional properties 'confg' not allowed",
		"config.handler=x":         "at '/config': additional properties 'handler' not allowed",
		"config.nodeName=x":        "at '/config': additional properties 'nodeName' not allowed",
		"image.name=x":             "at '/image': additional properties 'name' not allowed",
		"openshift.scc=true":       "at '/openshift': additional properties 'scc' not allowed",
		"podMonitor.enabled=true":  "at '/podMonitor': additional properties 'enabled' not allowed",
		"resources.limit.memory=1": "at '/resources': additional properties 'limit' not allowed",
		"seLinuxOptions.typ=spc_t": "at '/seLinuxOptions': additional properties 'typ' not allowed",
		"grafanaDashboard.label=x": "at '/grafanaDashboard': additional properties 'label' not allowed",
		"config=null":              "at '': missing property 'config'",
		"image.repository=null":    "at '/image': missing property 'repository'",
		// The daemon's configuration.
		"config.annotate=gvisor":            "at '/config/annotate': got string, want array",
		"config.compareInterval=5 minutes":  "at '/config/compareInterval': value must be 'a duration such as 500ms, 30s, 5m or 1h30m'",
		"config.compareInterval=5":          "at '/config/compareInterval': value must be 'a duration such as 500ms, 30s, 5m or 1h30m'",
		"config.containerdSocket=/c.sock":   "at '/config/containerdSocket': value must be 'an absolute path in a folder of its own, such as /run/containerd/containerd.sock, or nothing'",
		"config.enforce=yes":                "at '/config/enforce': got string, want boolean",
		"config.excludeNamespaces={a b}":    "at '/config/excludeNamespaces/0': value must be 'a glob such as runsc*; one glob an item'",
		"config.handlers[0]=runsc*\\,kata*": "at '/config/handlers/0': value must be 'a glob such as runsc*; one glob an item'",
		"config.hostState=remove":           "at '/config/hostState': value must be one of 'off', 'report', 'clean', false",
		"config.learned=maybe":              "at '/config/learned': value must be one of 'off', 'probe', false",
		"config.learnedInterval=-1s":        "at '/config/learnedInterval': value must be 'a duration such as 500ms, 30s, 5m or 1h30m'",
		"config.logFormat=logfmt":           "at '/config/logFormat': value must be one of 'text', 'json'",
		"config.logLevel=verbose":           "at '/config/logLevel': value must be one of 'error', 'warn', 'info', 'debug', 'trace'",
		"config.maxNeighbors=0":             "at '/config/maxNeighbors': minimum: got 0, want 1",
		"config.maxNeighbors=1000":          "at '/config/maxNeighbors': maximum: got 1,000, want 256",
		"config.metricsAddress=localhost":   "at '/config/metricsAddress': value must be 'host:port such as :9717 or 127.0.0.1:9717, or nothing'",
		"config.metricsAddress=9717":        "at '/config/metricsAddress': value must be 'host:port such as :9717 or 127.0.0.1:9717, or nothing'",
		"config.netnsDirs[0]=run/netns":     "at '/config/netnsDirs/0': value must be 'an absolute path such as /var/run/netns'",
		"config.netnsDirs[0]=/run/../etc":   "at '/config/netnsDirs/0': value must be 'an absolute path such as /var/run/netns'",
		"config.nriSocket=nri.sock":         "at '/config/nriSocket': value must be 'an absolute path in a folder of its own, such as /var/run/nri/nri.sock'",
		"config.pluginIndex=10":             "at '/config/pluginIndex': value must be 'two digits in quotes, such as \"10\"'",
		"config.pluginIndex=x1":             "at '/config/pluginIndex': value must be 'two digits in quotes, such as \"10\"'",
		"config.pluginName=my plugin":       "at '/config/pluginName': value must be 'a name of letters, digits and _.+-'",
		"config.podAnnotations=deny":        "at '/config/podAnnotations': value must be one of 'allow', 'optIn', 'ignore'",
		"config.cniResults=/results":        "at '/config/cniResults': value must be 'an absolute path such as /var/lib/cni/results, whose folder is mounted, or nothing'",
		"config.stateDir=/":                 "at '/config/stateDir': value must be 'the absolute path of a folder of its own, such as /run/neighpin, since it is mounted to be written to'",
		"config.stateDir=/etc":              "at '/config/stateDir': value must be 'the absolute path of a folder of its own, such as /run/neighpin, since it is mounted to be written to'",
		"config.stateDir=/run/../etc":       "at '/config/stateDir': value must be 'the absolute path of a folder of its own, such as /run/neighpin, since it is mounted to be written to'",
		// Kubernetes.
		"affinity.nodes=x":                             "at '/affinity': additional properties 'nodes' not allowed",
		"appArmorProfile.type=none":                    "at '/appArmorProfile/type': value must be one of 'RuntimeDefault', 'Localhost', 'Unconfined'",
		"extraVolumeMounts[0].name=x":                  "at '/extraVolumeMounts/0': missing property 'mountPath'",
		"fullnameOverride=Neighpin":                    "at '/fullnameOverride': value must be 'a name of lower case letters, digits, - and ., or nothing'",
		"image.digest=sha256:ab":                       "at '/image/digest': value must be 'a digest such as sha256: and 64 hexadecimal digits, or nothing'",
		"image.pullPolicy=always":                      "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
		"image.repository=ghcr.io/neighpin/neighpin:1": "at '/image/repository': value must be 'the name of an image without tag and digest, such as ghcr.io/neighpin/neighpin'",
		"image.tag=a b":                                "at '/image/tag': value must be 'a tag such as v0.1.0, or nothing for the chart",
		"imagePullSecrets[0]=regcred":                  "at '/imagePullSecrets/0': got string, want object",
		"nodeSelector.gpu=true":                        "at '/nodeSelector/gpu': got boolean, want string",
		"podMonitor.create=true":                       "at '/config/metricsAddress': value must be 'host:port such as :9717, since podMonitor.create is set'",
		"podMonitor.interval=30":                       "at '/podMonitor/interval': value must be 'a duration such as 30s or 1m, or nothing'",
		"resources.limits.memory=lots":                 "at '/resources/limits/memory': value must be 'a quantity such as 20m or 32Mi'",
		"serviceAccount.create=false":                  "at '/serviceAccount/name': value must be 'the name of an existing service account, since serviceAccount.create is false'",
		"tolerations[0].operator=Any":                  "at '/tolerations/0/operator': value must be one of 'Exists', 'Equal', 'Lt', 'Gt'",
		"updateStrategy.type=Recreate":                 "at '/updateStrategy/type': value must be one of 'RollingUpdate', 'OnDelete'",
		"updateStrategy.rollingUpdate.maxSurge=all":    "at '/updateStrategy/rollingUpdate/maxSurge': value must be 'a number of pods such as 1, or a share such as 10%'",
	} {
		_, err := d.Template(t.Context(), "--set", set)
		if err == nil {
			t.Errorf("--set %s is taken", set)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v\nwant %q", set, err, want)
		}
	}
}

// What is refused above is not refused for its form alone.
func TestRightValuesAreTaken(t *testing.T) {
	d := open(t)
	for _, set := range []string{
		"config.compareInterval=1h30m", "config.learned=off", "config.hostState=off", "config.metricsAddress=[::1]:9717", "config.metricsAddress=127.0.0.1:9717",
		"config.excludeNamespaces={kube-system,team-?}", "config.containerdSocket=", "global.imageRegistry=x", "enabled=true",
		"tolerations=null", "resources.limits=null", "updateStrategy.rollingUpdate.maxSurge=10%",
		"updateStrategy.type=OnDelete,updateStrategy.rollingUpdate=null", "serviceAccount.create=false,serviceAccount.name=mine",
		"image.repository=registry.example.com:5000/a/b_c", "priorityClassName=", "extraVolumes[0].name=x,extraVolumes[0].emptyDir.medium=Memory",
	} {
		text, err := d.Template(t.Context(), "--set", set)
		if err != nil {
			t.Errorf("--set %s: %v", set, err)
			continue
		}
		decode(t, text)
	}
}
