// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

// configMap writes a volume as the kubelet does: the file's name leads through ..data, which an update replaces.
func configMap(t *testing.T, dir, text string) (file string) {
	t.Helper()
	content, err := os.MkdirTemp(dir, "..content-")
	if err == nil {
		err = os.WriteFile(filepath.Join(content, "neighpin.yaml"), []byte(text), 0o600)
	}
	next, file := filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "neighpin.yaml")
	if err == nil {
		err = os.Symlink(filepath.Base(content), next)
	}
	if err == nil {
		err = os.Rename(next, filepath.Join(dir, "..data"))
	}
	if err == nil {
		if err = os.Symlink(filepath.Join("..data", "neighpin.yaml"), file); errors.Is(err, os.ErrExist) {
			err = nil
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// configured waits until the status says that of the configuration.
func configured(t *testing.T, d *node.Daemon, ok bool, says string) {
	t.Helper()
	err := await.Within(t.Context(), patience, "the configuration to be read", func() error {
		status, err := d.Status(t.Context())
		if err == nil && (status.Config.OK != ok || !strings.Contains(status.Config.Error+strings.Join(status.Config.NeedsRestart, " "), says)) {
			err = fmt.Errorf("it is %+v", status.Config)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A config map is edited while the daemon runs: what cannot be meant changes nothing and is said in log, metric and
// status; what can be counts for pods that start from then on.
func TestConfigMapIsEditedWhileTheDaemonRuns(t *testing.T) {
	keepLogs(t)
	dir := t.TempDir()
	file := configMap(t, dir, "handlers: [runsc]\n")
	d := startDaemon(t, "--config", file, "--metrics-address", metricsAddress)
	before := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, before, runContainer(t, before)); err != nil {
		t.Error(err)
	}

	configMap(t, dir, "handlers: [\x01\nstateDir: relative\n")
	configured(t, d, false, "parse configuration "+file)
	said(t, d, "stays in force", 1)
	if got, err := metric("neighpin_config_reload_success"); err != nil || got != 0 {
		t.Errorf("neighpin_config_reload_success is %g, %v", got, err)
	}
	if out, _, err := bed.CLI(t.Context(), "status"); !strings.Contains(out, "was not taken over") {
		t.Errorf("neighpin status does not say so: %v\n%s", err, out)
	}
	meanwhile := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, meanwhile, runContainer(t, meanwhile)); err != nil {
		t.Errorf("with nonsense in the file: %v", err)
	}

	configMap(t, dir, "handlers: [runsc, runc]\nexcludeNamespaces: [default]\nlogLevel: debug\nmaxNeighbors: 3\n")
	configured(t, d, true, "maxNeighbors")
	if got, err := metric("neighpin_config_reload_success"); err != nil || got != 1 {
		t.Errorf("neighpin_config_reload_success is %g, %v", got, err)
	}
	asks := map[string]string{pinAnnotation: "true"}
	excluded := runPod(t, node.PodSpec{Handler: "runsc", Annotations: asks})
	if err := checkUntouched(t.Context(), d, excluded, runContainer(t, excluded)); err != nil {
		t.Errorf("a pod of an excluded namespace that asks: %v", err)
	}
	for _, pod := range []*node.Pod{before, meanwhile} {
		if sandbox, err := d.Sandbox(t.Context(), pod); err != nil || len(sandbox.Neighbors) != len(gateways) {
			t.Errorf("a pod from before the change: %+v, %v", sandbox, err)
		}
	}
	if _, err := d.Record(before); err != nil {
		t.Error(err)
	}
}

// With enforce an operator lets a namespace's pods start without their pins; the others are refused all the same.
func TestEnforceLeavesExcludedNamespacesAlone(t *testing.T) {
	keepLogs(t)
	makeBridge(t)
	d := startDaemon(t, "--enforce", "--exclude-namespaces", "br*")
	pod := runPod(t, node.PodSpec{Handler: "runsc", Namespace: "bridge"})
	if err := checkUntouched(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, "--enforce", "--exclude-namespaces", "other")
	if said := refusal(t, node.PodSpec{Handler: "runsc", Namespace: "bridge", Name: "refused-elsewhere"}); !strings.Contains(said, "neighpin refuses") {
		t.Errorf("the kubelet is told %q", said)
	}
}

// The metrics' port is somebody else's: that costs the metrics until it is free, never a pin, and is said once.
func TestMetricsPortIsTaken(t *testing.T) {
	keepLogs(t)
	holder, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", metricsAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Close() })
	d := startDaemon(t, "--metrics-address", metricsAddress)
	said(t, d, "no metrics yet", 1)
	for _, probe := range []string{"--ready", "--live"} {
		if _, code, err := bed.CLI(t.Context(), "status", probe); code != 0 {
			t.Errorf("status %s: exit code %d, %v", probe, code, err)
		}
	}
	pod := runPod(t, node.PodSpec{Handler: "runsc"})
	if err := checkPinned(t.Context(), d, pod, runContainer(t, pod)); err != nil {
		t.Error(err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	err = await.Within(t.Context(), patience, "the metrics", func() error {
		_, err := metric("neighpin_nri_connected")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	said(t, d, "no metrics yet", 1)
}

// The daemon that cannot start ends at once, with the exit code of a configuration that cannot be understood.
func TestNonsenseAtTheStartEndsTheDaemon(t *testing.T) {
	keepLogs(t)
	file := configMap(t, t.TempDir(), "handler: [runsc]\n")
	d := launch(t, node.DaemonOptions{Args: []string{"--config", file}})
	err := await.Within(t.Context(), patience, "the daemon to end", func() error {
		if d.Running() == nil {
			return errors.New("it runs")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := d.Log()
	if code := d.ExitCode(); code != 2 || err != nil || !strings.Contains(log, `unknown field "handler"`) {
		t.Errorf("exit code %d, %v; it says\n%s", code, err, log)
	}
}
