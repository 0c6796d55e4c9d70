// SPDX-License-Identifier: Apache-2.0

package nritrip

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func events() []string { return []string{runPodSandbox, createContainer} }

// handled is what neighpin's metrics say of an event.
type handled struct {
	count int
	sum   time.Duration // in the handler, without the way to it and back
}

// handled asks neighpin what it has handled.
func (r *rig) handled(ctx context.Context) (map[string]handled, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.metricsAddress()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read neighpin's metrics: %w", err)
	}
	defer response.Body.Close()
	all := make(map[string]handled)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		for _, event := range events() {
			of := all[event]
			if text, ok := metric(lines.Text(), "neighpin_nri_hook_duration_seconds_count", event); ok {
				of.count, err = strconv.Atoi(text)
			} else if text, ok := metric(lines.Text(), "neighpin_nri_hook_duration_seconds_sum", event); ok {
				var seconds float64
				seconds, err = strconv.ParseFloat(text, 64)
				of.sum = time.Duration(seconds * float64(time.Second))
			}
			if err != nil {
				return nil, fmt.Errorf("parse neighpin's metrics: %w", err)
			}
			all[event] = of
		}
	}
	return all, lines.Err()
}

// metric is the value on a line, if that is of the metric and has the event as a label and no error.
func metric(line, name, event string) (string, bool) {
	if !strings.HasPrefix(line, name+"{") || !strings.Contains(line, `"`+event+`"`) || !strings.Contains(line, `"ok"`) {
		return "", false
	}
	_, value, ok := strings.Cut(line, "} ")
	return value, ok
}
