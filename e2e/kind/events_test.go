// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	metricsAddress = ":9717"

	// otherMAC is what the tests give to a node's end of a link.
	otherMAC = "02:00:00:00:12:34"
)

// testGuard changes the node's end of the links of two pods: neighpin hears of it, writes the one pod's entries again, and
// reports the copy that the other's runtime has, in its record and as an Event on the pod.
func testGuard(t *testing.T, b *bed) {
	node := b.nodes[1]
	kernel := b.run(t, wish{name: "guarded", node: node, annotations: map[string]string{"neighpin.io/pin": "true"}})
	copied := b.run(t, wish{name: "copied", runtimeClass: b.runtimeClass, node: node})
	for _, p := range []pod{kernel, copied} {
		b.settled(t, p)
		b.onNode(t, node, fmt.Sprintf("ip link set %s address %s", b.hostEnd(t, p).link, otherMAC))
	}
	begin := time.Now()
	b.await(t, "the pins of "+kernel.String()+" to follow", func() error {
		if entries := b.permanent(t, kernel); strings.Count(entries, otherMAC) != 2 {
			return fmt.Errorf("want two with %s; the entries are\n%s", otherMAC, entries)
		}
		return nil
	})
	t.Logf("written again within %s", time.Since(begin).Round(time.Millisecond))
	b.await(t, "the copy of "+copied.String()+" to be reported as stale", func() error {
		records, err := b.own.Node(b.ctx, node, nil, "sh", "-euc", "cat /run/neighpin/sandboxes/*.json")
		if err != nil || strings.Count(records, `"copied": "`) != 2 {
			return errors.Join(err, fmt.Errorf("the records are\n%s", records))
		}
		return nil
	})
	b.await(t, "the Event", func() error {
		described, err := b.kube.Output(b.ctx, "describe", "pod", "--namespace", home, copied.Metadata.Name)
		line := staleEvent.FindString(described)
		if err != nil || line == "" {
			return errors.Join(err, fmt.Errorf("kubectl describe says\n%s", tail(described)))
		}
		t.Logf("kubectl describe pod says: %s", strings.Join(strings.Fields(line), " "))
		return nil
	})
	if described := b.kubectl(t, "describe", "pod", "--namespace", home, kernel.Metadata.Name); regexp.MustCompile(`Warning.*neighpin`).MatchString(described) {
		t.Errorf("%s was repaired, and has an Event:\n%s", kernel, tail(described))
	}
	b.remove(t, kernel, copied)
	b.forgotten(t, kernel, copied)
}

// staleEvent is how kubectl describe shows it.
var staleEvent = regexp.MustCompile(`Warning +StaleNeighborCopy.*`)

// metric asks the API server for a node's metric, which comes by way of the pod's port.
func (b *bed) metric(node, name string) (string, error) {
	p, err := b.agent(node)
	if err != nil {
		return "", err
	}
	text, err := b.kube.Output(b.ctx, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s%s/proxy/metrics", app, p.Metadata.Name, metricsAddress))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("node %s has no metric %s", node, name)
}

// configState is what a node's metrics say of the configuration: whether the one that was read last is in force, and since when
// the one in force is.
func (b *bed) configState(node string) (state [2]string, err error) {
	for i, name := range []string{"neighpin_config_reload_success", "neighpin_config_last_reload_timestamp_seconds"} {
		value, err := b.metric(node, name)
		if err != nil {
			return state, err
		}
		state[i] = value
	}
	return state, nil
}

// reload changes the configuration and waits until every running neighpin has read it, and says whether it is in force ("1") or
// not ("0").
func (b *bed) reload(t *testing.T, want string, change func() error) {
	t.Helper()
	before := map[string][2]string{}
	for _, node := range b.nodes {
		b.await(t, "the metrics of node "+node, func() (err error) {
			before[node], err = b.configState(node)
			return err
		})
	}
	if err := change(); err != nil {
		t.Fatal(err)
	}
	for _, node := range b.nodes {
		b.await(t, "node "+node+" to read the configuration", func() error {
			now, err := b.configState(node)
			if err != nil || now[0] == want && now != before[node] {
				return err
			}
			// What the kubelet mounts follows when it looks at the pod, which a change of the pod has it do.
			p, err := b.agent(node)
			if err == nil {
				_, err = b.kube.Output(b.ctx, "annotate", "--overwrite", "--namespace", app, "pod", p.Metadata.Name, fmt.Sprintf("neighpin.io/e2e=%d", time.Now().UnixNano()))
			}
			return errors.Join(err, fmt.Errorf("success and time of the configuration are %v, were %v; want %s", now, before[node], want))
		})
	}
}

// testReload edits the ConfigMap under running neighpins: nonsense first, then a selection that selects nothing, then what
// was there.
func testReload(t *testing.T, b *bed) {
	node := b.nodes[0]
	agents := map[string]pod{}
	for _, node := range b.nodes {
		agents[node] = b.agentOf(t, node)
	}
	b.reload(t, "0", func() error { return b.configureText("handlers: [runsc\nnonsense") })
	p := b.run(t, wish{name: "after-nonsense", runtimeClass: b.runtimeClass, node: node})
	b.provePinned(t, p)
	for _, node := range b.nodes {
		const want = "was not taken over"
		var status string
		b.await(t, "neighpin status on node "+node+" to say that the configuration "+want, func() (err error) {
			if status, err = b.inAgent(node, "status"); err != nil || !strings.Contains(status, want) {
				err = errors.Join(err, fmt.Errorf("it says\n%s", status))
			}
			return err
		})
		b.await(t, "the log on node "+node+" to say what is wrong with the configuration", func() error {
			log, err := b.kube.Output(b.ctx, "logs", "--namespace", app, agents[node].Metadata.Name)
			if err != nil || !strings.Contains(log, "error converting YAML") {
				err = errors.Join(err, fmt.Errorf("it says\n%s", tail(log)))
			}
			return err
		})
		for line := range strings.Lines(status) {
			if strings.Contains(line, want) {
				t.Logf("node %s: neighpin status says: %s", node, strings.TrimSpace(line))
			}
		}
	}
	b.reload(t, "1", func() error { return b.configure(with(config(), object{"handlers": []any{"nothing"}})) })
	untouched := b.run(t, wish{name: "deselected", runtimeClass: b.runtimeClass, node: node})
	b.remove(t, p)
	b.notKnown(t, untouched)
	if b.own != nil {
		b.exceptUnpinned(t)
	}
	b.remove(t, untouched)
	// The pods' template is as it was, so that nothing is rolled out: here too it is the running ones that read it.
	b.reload(t, "1", func() error { return b.installer.install(b, config()) })
	for node, was := range agents {
		if now := b.agentOf(t, node); now.container().RestartCount != 0 {
			t.Errorf("node %s: neighpin was restarted: %s, %d times; was %s", node, now, now.container().RestartCount, was)
		}
	}
}
