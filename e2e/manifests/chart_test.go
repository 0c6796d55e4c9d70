// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestHelmFindsNoFault(t *testing.T) {
	d := open(t)
	for _, file := range append([]string{""}, valuesFiles(t, d)...) {
		var args []string
		if file != "" {
			args = []string{"--values", file}
		}
		out, err := d.Lint(t.Context(), args...)
		if err != nil || strings.Contains(out, "[WARNING]") {
			t.Errorf("helm lint with %q: %v\n%s", file, err, out)
		}
	}
}

// A changed default must reach nodes whose operator keeps the values of an older release (helm upgrade --reuse-values).
func TestValuesOfAnOlderReleaseSuffice(t *testing.T) {
	checkInvariants(t, template(t, open(t), "--set", "config.events=null,config.pprof=null,config.excludeNamespaces=null,config.observe=null,config.learned=null"))
}

// notOfACluster are the daemon's keys that the chart does not take, since each node has its own.
var notOfACluster = []string{"nodeName"}

// notGiven are those that the chart's default values leave out: what is right depends on other keys.
var notGiven = []string{"podAnnotations"}

func TestChartTakesTheDaemonsKeys(t *testing.T) {
	d := open(t)
	daemon := keys(t, effective(t, buildNeighpin(t, d), "{}"))
	daemon = slices.DeleteFunc(daemon, func(key string) bool { return slices.Contains(notOfACluster, key) })

	var schema struct {
		Definitions struct {
			Config struct {
				Properties map[string]any `json:"properties"`
			} `json:"config"`
		} `json:"definitions"`
	}
	if err := json.Unmarshal([]byte(read(t, d.Path(chartDir+"/values.schema.json"))), &schema); err != nil {
		t.Fatal(err)
	}
	var taken []string
	for key := range schema.Definitions.Config.Properties {
		taken = append(taken, key)
	}
	slices.Sort(taken)
	if diff := cmp.Diff(daemon, taken); diff != "" {
		t.Errorf("keys of the configuration (- daemon, + values.schema.json):\n%s", diff)
	}

	given := keys(t, one[*corev1.ConfigMap](t, template(t, d)).Data["neighpin.yaml"])
	given = append(given, notGiven...)
	slices.Sort(given)
	if diff := cmp.Diff(daemon, given); diff != "" {
		t.Errorf("keys of the configuration (- daemon, + values.yaml):\n%s", diff)
	}
}

func keys(t *testing.T, text string) []string {
	t.Helper()
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	var names []string
	for key := range config {
		names = append(names, key)
	}
	slices.Sort(names)
	return names
}

func TestEveryValueIsExplained(t *testing.T) {
	d := open(t)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(read(t, d.Path(chartDir+"/values.yaml"))), &doc); err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(path string, node *yaml.Node)
	walk = func(path string, node *yaml.Node) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			name := path + "." + key.Value
			seen++
			if key.HeadComment == "" && key.LineComment == "" && value.LineComment == "" {
				t.Errorf("no comment explains %s", name)
			}
			// What Kubernetes explains itself ends here.
			if value.Kind == yaml.MappingNode && !slices.Contains([]string{".resources.requests", ".resources.limits", ".updateStrategy.rollingUpdate"}, name) {
				walk(name, value)
			}
		}
	}
	walk("", doc.Content[0])
	if seen < 40 {
		t.Errorf("only %d values were looked at", seen)
	}
}

func TestNodesThatAreDifferent(t *testing.T) {
	d := open(t)
	for _, file := range valuesFiles(t, d) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := d.Template(t.Context(), "--values", file)
			if err != nil {
				t.Fatal(err)
			}
			// There is no Go type of it to be had.
			before, scc, found := strings.Cut(text, "# Source: neighpin/templates/openshift-scc.yaml\n")
			if !found {
				before = text
			}
			all := decode(t, strings.TrimSuffix(strings.TrimSpace(before), "---")+"\n")
			if found {
				_, rest, more := strings.Cut(scc, "\n---\n")
				if more {
					for name, o := range decode(t, rest) {
						all[name] = o
					}
				}
				for _, want := range []string{"kind: SecurityContextConstraints", "system:serviceaccount:neighpin:neighpin", "- SYS_ADMIN\n", "allowPrivilegedContainer: false"} {
					if !strings.Contains(scc, want) {
						t.Errorf("the constraints lack %q:\n%s", want, scc)
					}
				}
			}
			checkInvariants(t, all)
		})
	}
}

// A path is said once, in the daemon's own words; what is mounted follows.
func TestPathsAreMountedWhereTheConfigurationSaysThem(t *testing.T) {
	all := template(t, open(t), "--set", "config.nriSocket=/srv/nri/n.sock,config.containerdSocket=/run/k3s/containerd/containerd.sock",
		"--set", "config.stateDir=/run/pins", "--set", "config.netnsDirs={/var/run/netns,/run/containerd/netns},config.cniResults=/srv/cni/results")
	want := map[string]string{
		"/run/pins": "None", "/srv/nri": "None", "/run/k3s/containerd": "HostToContainer",
		"/var/run/netns": "HostToContainer", "/run/containerd/netns": "HostToContainer", "/srv/cni": "None",
	}
	if diff := cmp.Diff(want, hostMounts(t, all)); diff != "" {
		t.Errorf("mounts (- want, + got):\n%s", diff)
	}
	env := corev1.EnvVar{Name: "NEIGHPIN_STATE_DIR", Value: "/run/pins"}
	if !slices.Contains(container(t, all).Env, env) {
		t.Errorf("the probes are not told of the status socket's place: %v", container(t, all).Env)
	}
	checkInvariants(t, all)
}

func TestWithoutContainerdsSocket(t *testing.T) {
	all := template(t, open(t), "--set", "config.containerdSocket=")
	want := map[string]string{"/run/neighpin": "None", "/var/run/nri": "None", "/var/run/netns": "HostToContainer"}
	if diff := cmp.Diff(want, hostMounts(t, all)); diff != "" {
		t.Errorf("mounts (- want, + got):\n%s", diff)
	}
	if config := one[*corev1.ConfigMap](t, all).Data["neighpin.yaml"]; !strings.Contains(config, `containerdSocket: ""`) {
		t.Errorf("the daemon is not told:\n%s", config)
	}
}

func TestImageByTagOrDigest(t *testing.T) {
	d := open(t)
	version, err := d.Version()
	if err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + strings.Repeat("ab", 32)
	for set, want := range map[string]string{
		"image.pullPolicy=Never":               "ghcr.io/neighpin/neighpin:" + version,
		"image.tag=v9":                         "ghcr.io/neighpin/neighpin:v9",
		"image.digest=" + digest:               "ghcr.io/neighpin/neighpin@" + digest,
		"image.tag=v9,image.digest=" + digest:  "ghcr.io/neighpin/neighpin:v9@" + digest,
		"image.repository=registry:5000/n/pin": "registry:5000/n/pin:" + version,
	} {
		if got := container(t, template(t, d, "--set", set)).Image; got != want {
			t.Errorf("%s gives the image %s, want %s", set, got, want)
		}
	}
}

func TestPodMonitorNamesTheMetricsPort(t *testing.T) {
	all := template(t, open(t), "--set", "podMonitor.create=true,podMonitor.interval=15s,podMonitor.labels.release=prom,config.metricsAddress=:9717")
	monitor := one[*monitoringv1.PodMonitor](t, all)
	if monitor.Labels["release"] != "prom" || len(monitor.Spec.PodMetricsEndpoints) != 1 {
		t.Fatalf("labels %v and %d endpoints", monitor.Labels, len(monitor.Spec.PodMetricsEndpoints))
	}
	var targets []string
	for _, r := range monitor.Spec.PodMetricsEndpoints[0].RelabelConfigs {
		if r.TargetLabel == "__address__" {
			targets = append(targets, r.Regex+" "+*r.Replacement)
		}
	}
	if want := []string{"([^:]+) $1:9717", "(.+:.+) [$1]:9717"}; !slices.Equal(targets, want) {
		t.Errorf("addresses are made by %q, want %q", targets, want)
	}
	pods := one[*appsv1.DaemonSet](t, all).Spec.Template.Labels
	for key, value := range monitor.Spec.Selector.MatchLabels {
		if pods[key] != value {
			t.Errorf("it selects %s=%s, which the pods do not have: %v", key, value, pods)
		}
	}
}

func TestAlertsAndDashboardAreThoseOfTheRepository(t *testing.T) {
	d := open(t)
	all := template(t, d, "--set", "prometheusRule.create=true,prometheusRule.labels.release=prom,grafanaDashboard.create=true")
	rule := one[*monitoringv1.PrometheusRule](t, all)
	own := one[*monitoringv1.PrometheusRule](t, decode(t, read(t, d.Path("deploy/observability/prometheusrule.yaml"))))
	if diff := cmp.Diff(own.Spec, rule.Spec); diff != "" || len(own.Spec.Groups) == 0 {
		t.Errorf("alerts (- deploy/observability, + chart):\n%s", diff)
	}
	if rule.Labels["release"] != "prom" {
		t.Errorf("the alerts' labels are %v", rule.Labels)
	}
	dashboard := all["ConfigMap/neighpin-dashboard"].(*corev1.ConfigMap)
	if diff := cmp.Diff(read(t, d.Path("deploy/observability/dashboard.json")), dashboard.Data["neighpin.json"]); diff != "" {
		t.Errorf("dashboard (- deploy/observability, + chart):\n%s", diff)
	}
	if dashboard.Labels["grafana_dashboard"] != "1" {
		t.Errorf("the dashboard's labels are %v", dashboard.Labels)
	}
}

// What is applied by hand has the fields that Kubernetes knows, too.
func TestEveryManifestIsUnderstood(t *testing.T) {
	d := open(t)
	for _, pattern := range []string{"deploy/*.yaml", "deploy/examples/*.yaml", "deploy/observability/*.yaml"} {
		files, err := filepath.Glob(d.Path(pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, file := range files {
			if all := decode(t, read(t, file)); len(all) == 0 {
				t.Errorf("%s has no objects", file)
			}
		}
	}
}

func TestNotesNameWhatWasInstalled(t *testing.T) {
	d := open(t)
	notes := func(args ...string) string {
		t.Helper()
		out, err := d.run(t.Context(), append([]string{"install", "other", d.Path(chartDir), "--namespace", "apart", "--dry-run=client"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(out, "NOTES:")
		return text
	}
	if text := notes(); !strings.Contains(text, "kubectl -n apart exec daemonset/other-neighpin -- /neighpin status") || strings.Contains(text, "containerdSocket") {
		t.Errorf("notes:\n%s", text)
	}
	if text := notes("--set", "config.containerdSocket="); !strings.Contains(text, "config.containerdSocket is empty") {
		t.Errorf("notes without containerd's socket:\n%s", text)
	}
}
