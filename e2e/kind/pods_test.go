// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wish is a pod to be made: one container of the workload.
type wish struct {
	name string
	// namespace is home unless it is given.
	namespace    string
	runtimeClass string
	// node is where it has to run; anywhere, if empty.
	node        string
	annotations map[string]string
	// args are the workload's; it waits for SIGTERM without.
	args []string
	// userNamespace asks for hostUsers: false.
	userNamespace bool
}

// spec is the wish as a pod's spec.
func (b *bed) spec(w wish) object {
	spec := object{
		"automountServiceAccountToken":  false,
		"enableServiceLinks":            false,
		"terminationGracePeriodSeconds": 2,
		"tolerations":                   []any{object{"operator": "Exists"}},
		"containers":                    []any{object{"name": "workload", "image": b.workload, "imagePullPolicy": "IfNotPresent", "args": w.args}},
	}
	if w.runtimeClass != "" {
		spec["runtimeClassName"] = w.runtimeClass
	}
	if w.node != "" {
		spec["nodeSelector"] = object{"kubernetes.io/hostname": w.node}
	}
	if w.userNamespace {
		spec["hostUsers"] = false
	}
	return spec
}

// manifest is the wish as a pod.
func (b *bed) manifest(w wish) object {
	if w.namespace == "" {
		w.namespace = home
	}
	return object{
		"apiVersion": "v1", "kind": "Pod", "spec": b.spec(w),
		"metadata": object{"name": w.name, "namespace": w.namespace, "annotations": w.annotations},
	}
}

// pod is a pod of one container, as the API server has it.
type pod struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		CreationTimestamp string            `json:"creationTimestamp"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Phase  string `json:"phase"`
		Reason string `json:"reason"`
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
		ContainerStatuses []containerStatus `json:"containerStatuses"`
	} `json:"status"`
}

type containerStatus struct {
	ContainerID  string         `json:"containerID"`
	Ready        bool           `json:"ready"`
	RestartCount int            `json:"restartCount"`
	State        containerState `json:"state"`
	LastState    containerState `json:"lastState"`
}

type containerState struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Terminated *struct {
		ExitCode int    `json:"exitCode"`
		Reason   string `json:"reason"`
		Message  string `json:"message"`
	} `json:"terminated"`
}

// String names the pod and where it runs.
func (p pod) String() string {
	return fmt.Sprintf("pod %s/%s on node %s", p.Metadata.Namespace, p.Metadata.Name, p.Spec.NodeName)
}

// container is what is said of its container; zero before there is one.
func (p pod) container() containerStatus {
	if len(p.Status.ContainerStatuses) == 0 {
		return containerStatus{}
	}
	return p.Status.ContainerStatuses[0]
}

// containerID is the id of its container in the runtime.
func (p pod) containerID() string {
	_, id, _ := strings.Cut(p.container().ContainerID, "://")
	return id
}

// run makes a pod and waits until it is ready.
func (b *bed) run(t *testing.T, w wish) pod {
	t.Helper()
	b.apply(t, b.manifest(w))
	return b.ready(t, w)
}

// ready waits until the pod that was wished for is ready.
func (b *bed) ready(t *testing.T, w wish) pod {
	t.Helper()
	if w.namespace == "" {
		w.namespace = home
	}
	if _, err := b.kube.Output(b.ctx, "wait", "--namespace", w.namespace, "--for=condition=Ready", "--timeout="+patience.String(), "pod/"+w.name); err != nil {
		described, _ := b.kube.Output(b.ctx, "describe", "--namespace", w.namespace, "pod", w.name)
		t.Fatalf("%v\n%s", err, tail(described))
	}
	return b.pod(t, w.namespace, w.name)
}

// pod asks for a pod.
func (b *bed) pod(t *testing.T, namespace, name string) pod {
	t.Helper()
	var p pod
	decode(t, b.kubectl(t, "get", "pod", "--namespace", namespace, name, "--output", "json"), &p)
	return p
}

// pods asks for all that a selector names.
func (b *bed) pods(namespace string, args ...string) ([]pod, error) {
	output, err := b.kube.Output(b.ctx, append([]string{"get", "pods", "--namespace", namespace, "--output", "json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []pod `json:"items"`
	}
	return list.Items, unmarshal(output, &list)
}

// remove removes pods and waits until they are gone.
func (b *bed) remove(t *testing.T, pods ...pod) {
	t.Helper()
	for _, namespace := range []string{home, shunned} {
		args := []string{"delete", "pod", "--namespace", namespace, "--timeout=" + patience.String()}
		before := len(args)
		for _, p := range pods {
			if p.Metadata.Namespace == namespace {
				args = append(args, p.Metadata.Name)
			}
		}
		if len(args) > before {
			b.kubectl(t, args...)
		}
	}
}

// execLost is what is said of a process that was done before `runsc exec` had looked for its pid file, which happens on busy machines (see
// Command in e2e/internal/node): the process ran, its result is lost.
const execLost = "runsc did not terminate successfully"

// knock has a pod connect to addresses, each of which must answer, if only by refusing. It may do so again where gVisor has lost the result.
func (b *bed) knock(t *testing.T, p pod, addresses ...string) {
	t.Helper()
	args := []string{"exec", "--namespace", p.Metadata.Namespace, p.Metadata.Name, "--"}
	const tries = 3
	for try := 1; ; try++ {
		output, err := b.kube.Output(b.ctx, slices.Concat(args, connect(addresses))...)
		if err == nil {
			return
		}
		if try == tries || !strings.Contains(err.Error(), execLost) {
			t.Errorf("%s does not reach its gateways %v: %v\n%s", p, addresses, err, output)
			return
		}
	}
}

// connect is the workload's command line for that.
func connect(addresses []string) []string {
	command := []string{"/workload", "connect"}
	for _, address := range addresses {
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		command = append(command, address+":1")
	}
	return command
}

// event is an Event on a pod.
type event struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Object  struct {
		Name string `json:"name"`
	} `json:"involvedObject"`
}

// eventsOf are the Events on a pod, or on all in the tests' namespace.
func (b *bed) eventsOf(name string) ([]event, error) {
	args := []string{"get", "events", "--namespace", home, "--output", "json"}
	if name != "" {
		args = append(args, "--field-selector", "involvedObject.name="+name)
	}
	output, err := b.kube.Output(b.ctx, args...)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []event `json:"items"`
	}
	return list.Items, unmarshal(output, &list)
}
