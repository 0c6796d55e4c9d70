// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// metricsAddress is where daemons that are asked to serve their metrics.
const metricsAddress = "127.0.0.1:9717"

// metric reads one metric, by its name with its labels.
func metric(name string) (value float64, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get("http://" + metricsAddress + "/metrics")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscanf(rest, "%g", &value)
			return value, err
		}
	}
	return 0, fmt.Errorf("no metric %s in\n%s", name, body)
}

// counted waits until a metric has at least the value.
func (r *rowRun) counted(t *testing.T, name string, least float64) {
	t.Helper()
	r.eventually(t, name, func() error {
		value, err := metric(name)
		if err == nil && value < least {
			err = fmt.Errorf("it is %g, want at least %g", value, least)
		}
		return err
	})
}

func TestMetricsCountAPodsStart(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t, "--metrics-address", metricsAddress)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]float64{
		`neighpin_sandbox_starts_total{source="peer",verdict="inTime"}`:                1,
		`neighpin_start_margin_seconds_count{verdict="inTime"}`:                        1,
		`neighpin_neighbors_pinned_total{family="inet",source="peer"}`:                 1,
		`neighpin_neighbors_pinned_total{family="inet6",source="peer"}`:                1,
		`neighpin_sandboxes{handler="runsc",phase="started"}`:                          1,
		`neighpin_nri_synchronized`:                                                    1,
		`neighpin_nri_hook_duration_seconds_count{hook="CreateContainer",result="ok"}`: 1,
	} {
		// It is told after the record is changed, which the status tells of.
		err := await.Within(t.Context(), patience, name, func() error {
			got, err := metric(name)
			if err == nil && got != want {
				err = fmt.Errorf("it is %g, want %g", got, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
