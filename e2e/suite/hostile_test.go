// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// hostile are pods whose owner means to break what reads their names and annotations. The runtime takes them all; a
// Kubernetes API server would refuse the name, and CNI one with an equals sign.
var hostile = map[string]node.PodSpec{
	"a name with quotes and line ends": {Name: "web\"\nlevel: error, \"all is lost\"\n\x1b[2J\t%s\\"},
	"an annotation of 1 MB":            {Annotations: map[string]string{annotationKey: strings.Repeat("x", 1<<20)}},
	"an annotation with a key twice": {Annotations: map[string]string{
		annotationKey: `{"version":1,"version":1,"cookie":1,"cookie":2,"neighbors":[],"neighbors":[{"dst":"10.97.0.1"}]}`,
	}},
	"an annotation with line ends": {Annotations: map[string]string{annotationKey: "{\n}\nlevel=error"}},
	"a wish that is none":          {Annotations: map[string]string{pinAnnotation: "false\nlevel=error"}},
	"a wish in capitals":           {Annotations: map[string]string{pinAnnotation: "FALSE"}},
	"an empty wish":                {Annotations: map[string]string{pinAnnotation: ""}},
}

// textEntry is how each entry of the text log begins.
var textEntry = regexp.MustCompile(`^time="[^"]+" level=(debug|info|warning) msg=`)

// checkLog says which line of a log is not one whole entry of a level that all being well has.
func checkLog(log, format string) error {
	if log == "" {
		return fmt.Errorf("the log is empty")
	}
	for line := range strings.Lines(log) {
		if format == "text" {
			if !textEntry.MatchString(line) {
				return fmt.Errorf("a line of the log is no entry: %.300q", line)
			}
			continue
		}
		var entry struct {
			Level, Msg string
			Time       time.Time
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return fmt.Errorf("a line of the log is no JSON: %w: %.300q", err, line)
		}
		if entry.Msg == "" || entry.Time.IsZero() || entry.Level == "error" {
			return fmt.Errorf("an odd entry in the log: %.300q", line)
		}
	}
	return nil
}

func TestHostilePodsAreServedLikeOthersAndBreakNoLog(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			keepLogs(t)
			d := startDaemon(t, "--log-format", format)
			for scenario, spec := range hostile {
				spec.Handler = "runsc"
				pod := runPod(t, spec)
				container, err := pod.Run(t.Context(), node.ContainerSpec{Annotations: spec.Annotations})
				if err != nil {
					t.Fatalf("%s: %v", scenario, err)
				}
				if err := checkPinned(t.Context(), d, pod, container); err != nil {
					t.Errorf("%s: %.2000v", scenario, err)
				}
			}
			forged := 0
			log, err := d.Log()
			if err == nil {
				err = checkLog(log, format)
			}
			if err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(log) {
				if strings.Contains(line, "pod brings its own") {
					forged++
				}
			}
			if forged != 3 {
				t.Errorf("%d pods are said to bring an annotation of their own, want 3", forged)
			}
			if len(log) > 1<<20 {
				t.Errorf("the log has %d bytes: it repeats what pods say", len(log))
			}
			checkTable(t, len(hostile))
		})
	}
}

// checkTable says whether `neighpin status` for people keeps to one line per gateway, without control characters.
func checkTable(t *testing.T, pods int) {
	t.Helper()
	out, _, err := bed.CLI(t.Context(), "status")
	if err != nil {
		t.Error(err)
	}
	const head = 7 // version, configuration, NRI, containerd, the host, an empty line, the columns
	if got := strings.Count(out, "\n"); got != head+pods*len(gateways) {
		t.Errorf("%d lines, want %d and one per gateway:\n%q", got, head, out)
	}
	if strings.ContainsAny(out, "\x1b\r") {
		t.Errorf("the table holds control characters: %q", out)
	}
}

// Only "true" and "false" are wishes.
func TestOddWishesDoNotSelect(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	for _, wish := range []string{"True", "1", " true", "true\n", ""} {
		pod := runPod(t, node.PodSpec{Handler: "runc", Annotations: map[string]string{pinAnnotation: wish}})
		if err := checkUntouched(context.WithoutCancel(t.Context()), d, pod, runContainer(t, pod)); err != nil {
			t.Errorf("%q: %v", wish, err)
		}
	}
}

// NRI's own messages end at 4 MiB (ttrpc), so containerd cannot tell any plugin of such a pod and refuses it; a Kubernetes API
// server takes no more than 256 KiB. What containerd leaves of it is removed as the kubelet does; nothing of ours may
// remain, and the next pod is served as ever.
func TestAnAnnotationOfTenMegabytes(t *testing.T) {
	keepLogs(t)
	d := startDaemon(t)
	t.Cleanup(func() {
		// With what is left of it containerd could synchronize no plugin.
		if err := removeAllPods(context.Background()); err != nil {
			t.Error(err)
		}
	})
	_, err := bed.RunPod(t.Context(), node.PodSpec{Handler: "runsc", Annotations: map[string]string{annotationKey: strings.Repeat("x", 10<<20)}})
	if err == nil || !strings.Contains(err.Error(), "exceed maximum message size") {
		t.Errorf("run pod: %.300v; want NRI's refusal", err)
	}
	if err := removeAllPods(t.Context()); err != nil {
		t.Error(err)
	}
	settled(t, d, nil)
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	said(t, d, "registered with NRI", 1)
}

// removeAllPods tries again where containerd is still busy with a sandbox.
func removeAllPods(ctx context.Context) error {
	return await.Within(ctx, patience, "the removal of all pods", func() error { return bed.RemoveAllPods(ctx) })
}
