// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/parts"
)

// alert is one that has to fire on the failing series and to stay quiet on the healthy one: a value each minute, in
// promtool's notation.
type alert struct{ series, healthy, failing string }

var alerts = map[string]alert{
	"NeighpinAbsent":            {`neighpin_build_info`, "1x120", "_x120"},
	"NeighpinNotReady":          {`neighpin_nri_synchronized`, "1x120", "1x60 0x59"},
	"NeighpinStoreAway":         {`neighpin_store_connected`, "1x120", "1x60 0x59"},
	"NeighpinHookSlow":          {`neighpin_nri_hook_duration_seconds_bucket`, "", ""}, // a histogram, see hookSeries
	"NeighpinHostNotHeard":      {`neighpin_host_heard`, "1x120", "1x60 0x59"},
	"NeighpinConfigRejected":    {`neighpin_config_reload_success`, "1x120", "1x60 0x59"},
	"NeighpinPodsLate":          {`neighpin_sandbox_starts_total{verdict="late",source="peer"}`, "7x120", "7x110 8x9"},
	"NeighpinStaleCopies":       {`neighpin_stale_copies`, "0x120", "0x100 1x19"},
	"NeighpinGatewaysNotPinned": {`neighpin_gateways_skipped{reason="UnsupportedLink"}`, "0x120", "0x80 1x39"},
	"NeighpinPodsFailed":        {`neighpin_events_total{kind="failed"}`, "3x120", "3x110 4x9"},
	"NeighpinPodsRefused":       {`neighpin_events_total{kind="refused"}`, "3x120", "3x110 4x9"},
	"NeighpinGatewayDisputed":   {`neighpin_events_total{kind="conflict"}`, "3x120", "3x110 4x9"},
	"NeighpinPodsAskForGateway": {`neighpin_observed_solicitations_total{target="gateway"}`, "0x120", "0x110 1x9"},
	"NeighpinHostState":         {`neighpin_host_state_finds_total{kind="neighbor",result="found"}`, "0x120", "0x110 1x9"},
	"NeighpinRecordsNotKept":    {`neighpin_events_total{kind="record"}`, "0x120", "0x110 1x9"},
	"NeighpinEventsNotSent":     {`neighpin_kubernetes_events_total{result="failed"}`, "0x120", "0x110 1x9"},
}

// hookSeries are hooks that take less than a millisecond, or, at the end, more than a second and a half.
var hookSeries = map[bool]string{
	false: "      - {series: 'neighpin_nri_hook_duration_seconds_bucket{instance=\"n\",hook=\"RunPodSandbox\",le=\"0.001\"}', values: '0+1x120'}\n" +
		"      - {series: 'neighpin_nri_hook_duration_seconds_bucket{instance=\"n\",hook=\"RunPodSandbox\",le=\"+Inf\"}', values: '0+1x120'}\n",
	true: "      - {series: 'neighpin_nri_hook_duration_seconds_bucket{instance=\"n\",hook=\"RunPodSandbox\",le=\"1.5\"}', values: '0x120'}\n" +
		"      - {series: 'neighpin_nri_hook_duration_seconds_bucket{instance=\"n\",hook=\"RunPodSandbox\",le=\"2\"}', values: '0+1x120'}\n" +
		"      - {series: 'neighpin_nri_hook_duration_seconds_bucket{instance=\"n\",hook=\"RunPodSandbox\",le=\"+Inf\"}', values: '0+1x120'}\n",
}

// Gateways with nothing to pin, and starts in time, are no cause for anybody to wake up.
var harmless = []alert{
	{`neighpin_gateways_skipped{reason="NoARP"}`, "5x120", ""},
	{`neighpin_sandbox_starts_total{verdict="inTime",source="peer"}`, "0+1x120", ""},
	{`neighpin_repairs_total{cause="event"}`, "0+1x120", ""},
	{`neighpin_host_state_finds_total{kind="rule",result="removed"}`, "0+1x120", ""},
	{`neighpin_kubernetes_events_total{result="sent"}`, "0+1x120", ""},
	{`neighpin_observed_solicitations_total{target="other"}`, "0+1x120", ""},
}

// bench is a folder with the rules as Prometheus has them, and promtool.
type bench struct{ dir, promtool, rules string }

func newBench(t *testing.T) bench {
	t.Helper()
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	part, err := builder.Build(t.Context(), "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "..", "deploy", "observability", "prometheusrule.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, spec, found := strings.Cut(string(data), "\nspec:\n")
	if !found {
		t.Fatal("the rules have no spec")
	}
	b := bench{dir: t.TempDir(), promtool: part.Path("promtool"), rules: regexp.MustCompile(`(?m)^  `).ReplaceAllString(spec, "")}
	b.write(t, "rules.yaml", b.rules)
	return b
}

func (b bench) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (b bench) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), b.promtool, args...).CombinedOutput()
	return string(out), err
}

// scenario is a test of promtool's: after two hours, either all alerts are quiet but the one named, or all are.
func scenario(failing string) string {
	var text strings.Builder
	series := func(name, values string) {
		name = strings.Replace(name+"{", "{", `{instance="n",`, 1)
		name = strings.TrimSuffix(strings.TrimSuffix(name, "{"), ",")
		if !strings.HasSuffix(name, "}") {
			name += "}"
		}
		fmt.Fprintf(&text, "      - {series: '%s', values: '%s'}\n", name, values)
	}
	text.WriteString("  - interval: 1m\n    input_series:\n")
	for _, name := range names() {
		a := alerts[name]
		switch name {
		case "NeighpinHookSlow":
			text.WriteString(hookSeries[name == failing])
		case failing:
			series(a.series, a.failing)
		default:
			series(a.series, a.healthy)
		}
	}
	for _, a := range harmless {
		series(a.series, a.healthy)
	}
	text.WriteString("    promql_expr_test:\n      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n        eval_time: 119m\n        exp_samples:")
	if failing == "" {
		text.WriteString(" []\n")
	} else {
		fmt.Fprintf(&text, "\n          - {labels: '{alertname=\"%s\"}', value: 1}\n", failing)
	}
	return text.String()
}

func names() (list []string) {
	for name := range alerts {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func TestRulesAreWhatPrometheusTakes(t *testing.T) {
	b := newBench(t)
	if out, err := b.run(t, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(b.dir, "rules.yaml")); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	b.write(t, "broken.yaml", strings.Replace(b.rules, "absent(neighpin_build_info)", "absent(neighpin_build_info", 1))
	if out, err := b.run(t, "check", "rules", filepath.Join(b.dir, "broken.yaml")); err == nil {
		t.Errorf("a broken expression is taken, too: %s", out)
	}
}

func TestEachAlertFiresAloneWhenItShould(t *testing.T) {
	b := newBench(t)
	var written []string
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(b.rules, -1) {
		written = append(written, m[1])
	}
	slices.Sort(written)
	if !slices.Equal(written, names()) {
		t.Errorf("the rules have %q,\nthe test knows %q", written, names())
	}
	const head = "rule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n"
	text := head + scenario("")
	for _, name := range names() {
		text += scenario(name)
	}
	if out, err := b.run(t, "test", "rules", b.write(t, "alerts.yaml", text)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// The test sees an alert that is missing, and one that is too many.
	for name, wrong := range map[string]string{
		"missing":  strings.Replace(scenario(""), "exp_samples: []", "exp_samples:\n          - {labels: '{alertname=\"NeighpinHostNotHeard\"}', value: 1}", 1),
		"too many": strings.Replace(scenario("NeighpinHostNotHeard"), `'{alertname="NeighpinHostNotHeard"}', value: 1`, `'{alertname="NeighpinNone"}', value: 1`, 1),
	} {
		if out, err := b.run(t, "test", "rules", b.write(t, "wrong.yaml", head+wrong)); err == nil {
			t.Errorf("%s: not seen: %s", name, out)
		}
	}
}

// Every expression of the dashboard is one that Prometheus can read.
func TestTheDashboardsExpressionsAreValid(t *testing.T) {
	b := newBench(t)
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "..", "deploy", "observability", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	text := "groups:\n  - name: dashboard\n    rules:\n"
	count := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "6h", "$instance", ".*").Replace(target.Expr)
			quoted, err := json.Marshal(expr)
			if err != nil {
				t.Fatal(err)
			}
			count++
			text += fmt.Sprintf("      - {record: 'dashboard:%d', expr: %s}\n", count, quoted)
		}
	}
	if out, err := b.run(t, "check", "rules", b.write(t, "dashboard.yaml", text)); err != nil || count == 0 {
		t.Errorf("%d expressions: %v\n%s", count, err, out)
	}
}
