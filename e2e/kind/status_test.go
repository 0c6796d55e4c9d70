// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// neighbor is an entry as neighpin shows it.
type neighbor struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	LLAddr string   `json:"lladdr"`
	State  []string `json:"state,omitempty"`
	Source string   `json:"source"`
}

// sandbox is one of neighpin's records.
type sandbox struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Namespace string     `json:"namespace"`
	UID       string     `json:"uid"`
	Handler   string     `json:"handler"`
	Phase     string     `json:"phase"`
	Neighbors []neighbor `json:"neighbors"`
	Timing    struct {
		Verdict       string  `json:"verdict"`
		MarginMs      float64 `json:"marginMs"`
		ResultToPinMs float64 `json:"resultToPinMs"`
	} `json:"timing"`
	Annotated bool   `json:"annotated"`
	Refused   string `json:"refused"`
}

// gateways are the addresses that are pinned, sorted.
func (s sandbox) gateways() []string {
	var addresses []string
	for _, n := range s.Neighbors {
		addresses = append(addresses, n.Dst)
	}
	slices.Sort(addresses)
	return addresses
}

// unmarshal is json.Unmarshal with the text in the error.
func unmarshal(text string, into any) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("decode JSON: %w\n%s", err, tail(text))
	}
	return nil
}

// agent is the neighpin pod of a node: of two, during an update, the newer one that is ready.
func (b *bed) agent(node string) (pod, error) {
	all, err := b.pods(app, "--selector", "app.kubernetes.io/name=neighpin", "--field-selector", "spec.nodeName="+node)
	if err != nil {
		return pod{}, err
	}
	slices.SortFunc(all, func(x, y pod) int { return strings.Compare(y.Metadata.CreationTimestamp, x.Metadata.CreationTimestamp) })
	for _, p := range all {
		if p.Metadata.DeletionTimestamp == "" && p.container().Ready {
			return p, nil
		}
	}
	return pod{}, fmt.Errorf("no neighpin is ready on node %s", node)
}

// inAgent runs a command of neighpin in the pod of a node. The error is kubectl's, with the exit code in it.
func (b *bed) inAgent(node string, args ...string) (string, error) {
	p, err := b.agent(node)
	if err != nil {
		return "", err
	}
	return b.kube.Output(b.ctx, slices.Concat([]string{"exec", "--namespace", app, p.Metadata.Name, "--", "/neighpin"}, args)...)
}

// status asks all nodes' neighpins what they have, by namespace and name of the pod. That something is wrong with a pod, exit
// code 3, is no error.
func (b *bed) status() (map[string]sandbox, error) {
	all := map[string]sandbox{}
	for _, node := range b.nodes {
		output, err := b.inAgent(node, "status", "--output", "json")
		if err != nil && !strings.Contains(err.Error(), "exit status 3") {
			return nil, err
		}
		var said struct {
			Sandboxes []sandbox `json:"sandboxes"`
		}
		if err := unmarshal(output, &said); err != nil {
			return nil, err
		}
		for _, s := range said.Sandboxes {
			all[s.Namespace+"/"+s.Name] = s
		}
	}
	return all, nil
}

// records is status, asked again while a neighpin does not answer, as one whose probe had to wait for too long.
func (b *bed) records(t *testing.T) (all map[string]sandbox) {
	t.Helper()
	b.await(t, "all neighpins to say what they have", func() (err error) {
		all, err = b.status()
		return err
	})
	return all
}

// settled waits until neighpin has a verdict on the pod and has annotated its container.
func (b *bed) settled(t *testing.T, p pod) sandbox {
	t.Helper()
	var found sandbox
	b.await(t, "neighpin's verdict on "+p.String(), func() error {
		all, err := b.status()
		if err != nil {
			return err
		}
		record, ok := all[p.Metadata.Namespace+"/"+p.Metadata.Name]
		switch {
		case !ok || record.UID != p.Metadata.UID:
			return errors.New("neighpin has no record of it")
		case record.Timing.Verdict == "pending" || record.Timing.Verdict == "" || !record.Annotated:
			return fmt.Errorf("its record is %+v", record)
		}
		found = record
		return nil
	})
	return found
}

// forgotten waits until neighpin has no record of a pod that is gone.
func (b *bed) forgotten(t *testing.T, pods ...pod) {
	t.Helper()
	b.await(t, "neighpin to forget the pods", func() error {
		all, err := b.status()
		if err != nil {
			return err
		}
		for _, p := range pods {
			if record, ok := all[p.Metadata.Namespace+"/"+p.Metadata.Name]; ok && record.UID == p.Metadata.UID {
				return fmt.Errorf("it has a record of %s: %+v", p, record)
			}
		}
		return nil
	})
}
