// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// installer is a way in which users install neighpin.
type installer interface {
	// String is its name in E2E_INSTALLER.
	String() string
	// install installs neighpin with these keys of its configuration, or changes what it is installed with.
	install(b *bed, config object) error
	uninstall(b *bed) error
}

// installers are the ways that there are, by name.
func installers() map[string]installer {
	return map[string]installer{byHelm{}.String(): byHelm{}, byManifest{}.String(): byManifest{}}
}

// byHelm installs the chart.
type byHelm struct{}

func (byHelm) String() string { return "helm" }

// values are the chart's.
func (byHelm) values(b *bed, config object) (string, error) {
	values := object{"config": config}
	if b.image != "" {
		at := strings.LastIndex(b.image, ":")
		if at < 0 {
			return "", fmt.Errorf("image %s has no tag", b.image)
		}
		values["image"] = object{"repository": b.image[:at], "tag": b.image[at+1:]}
	}
	text, err := json.Marshal(values)
	return string(text), err
}

func (h byHelm) install(b *bed, config object) error {
	values, err := h.values(b, config)
	if err != nil {
		return err
	}
	args := []string{"upgrade", "--install", app, filepath.Join(b.deploy, "helm", "neighpin"), "--namespace", app, "--create-namespace", "--values", "-"}
	if b.edited {
		// Helm 4 applies on the server, where what was edited belongs to who edited it.
		args = append(args, "--force-conflicts")
	}
	_, err = b.kube.HelmOutput(b.ctx, values, args...)
	return err
}

func (byHelm) uninstall(b *bed) error {
	if _, err := b.kube.HelmOutput(b.ctx, "", "uninstall", app, "--namespace", app, "--wait"); err != nil {
		return err
	}
	// helm leaves the namespace that it made.
	_, err := b.kube.Output(b.ctx, "delete", "namespace", app, "--timeout="+patience.String())
	return err
}

// byManifest applies install.yaml.
type byManifest struct{}

func (byManifest) String() string { return "install.yaml" }

// text is install.yaml with the image of the tests.
func (byManifest) text(b *bed) (string, error) {
	text, err := os.ReadFile(filepath.Join(b.deploy, "install.yaml"))
	if err != nil || b.image == "" {
		return string(text), err
	}
	return imageLine.ReplaceAllString(string(text), "image: "+b.image), nil
}

func (m byManifest) install(b *bed, config object) error {
	text, err := m.text(b)
	if err != nil {
		return err
	}
	if err := b.kube.Apply(b.ctx, text); err != nil {
		return err
	}
	if len(config) == 0 {
		return nil
	}
	// As a user edits it: the running ones read some of it again, new ones all.
	if err := b.configure(config); err != nil {
		return err
	}
	_, err = b.kube.Output(b.ctx, "rollout", "restart", "--namespace", app, "daemonset/"+app)
	return err
}

func (m byManifest) uninstall(b *bed) error {
	_, err := b.kube.Output(b.ctx, "delete", "--filename", filepath.Join(b.deploy, "install.yaml"), "--timeout="+patience.String())
	return err
}

// configure replaces the configuration in the ConfigMap, by hand.
func (b *bed) configure(config object) error {
	text, err := json.Marshal(config) // JSON is YAML
	if err != nil {
		return err
	}
	return b.configureText(string(text))
}

func (b *bed) configureText(text string) error {
	b.edited = true
	patch, err := json.Marshal(object{"data": object{"neighpin.yaml": text}})
	if err != nil {
		return err
	}
	_, err = b.kube.Output(b.ctx, "patch", "configmap", "--namespace", app, app, "--type", "merge", "--patch", string(patch))
	return err
}

var imageLine = regexp.MustCompile(`image: (\S+)`)

// install installs neighpin, or changes its configuration, waits until all of it is ready and says how long that took.
func (b *bed) install(t *testing.T, config object) {
	t.Helper()
	start := time.Now()
	if err := b.installer.install(b, config); err != nil {
		t.Fatal(err)
	}
	applied := time.Since(start)
	b.rolledOut(t)
	t.Logf("by %s: applied in %s, ready on %d nodes %s after", b.installer, round(applied), len(b.nodes), round(time.Since(start)-applied))
}

// rolledOut waits until the DaemonSet is as it should be.
func (b *bed) rolledOut(t *testing.T) {
	t.Helper()
	b.kubectl(t, "rollout", "status", "--namespace", app, "daemonset/"+app, "--timeout="+patience.String())
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// with is a configuration with some keys more.
func with(config object, more object) object {
	config = maps.Clone(config)
	maps.Copy(config, more)
	return config
}
