// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

func checkContainerd(f facts) []Item {
	const name = "containerd"
	switch {
	case f.opts.Runtime == nil:
		return one(name, Warning, "containerdSocket is empty: there is no early path, and what containerd is cannot be asked",
			"Set containerdSocket, unless the runtime is CRI-O or gVisor and Kata are not used.")
	case f.node.Version == "":
		return one(name, Failed, fmt.Sprintf("nobody answers at %s: %v", f.opts.ContainerdSocket, f.nodeErr),
			"Set containerdSocket to containerd's socket on this node (k3s and RKE2: /run/k3s/containerd/containerd.sock, microk8s: /var/snap/microk8s/common/run/containerd.sock), and mount its folder.")
	case !f.node.CRI:
		return one(name, Warning, fmt.Sprintf("%s at %s, whose CRI plugin does not answer: %v", f.node.Version, f.opts.ContainerdSocket, f.nodeErr),
			"Look at containerd's log; without the CRI plugin no pod starts.")
	}
	return one(name, OK, fmt.Sprintf("%s at %s", f.node.Version, f.opts.ContainerdSocket), "")
}

// checkHostNetwork goes by containerd's socket, which is listed in the network
// namespace that containerd runs in.
func checkHostNetwork(f facts) []Item {
	const name = "host's network"
	switch {
	case f.node.Version == "" || f.socketsErr != nil:
		return one(name, Unknown, "which network namespace containerd is in cannot be seen", "")
	case !f.listens(f.opts.ContainerdSocket):
		return one(name, Unknown, fmt.Sprintf("containerd answers, and nobody in this network namespace listens on a socket of the name %s", f.opts.ContainerdSocket),
			"Make sure that the pod has hostNetwork: true: the other ends of the pods' links are there.")
	}
	return one(name, OK, "this process is in containerd's network namespace", "")
}

// checkTiming says what the release means for pins.
func checkTiming(f facts) []Item {
	const name = "timing"
	r, ok := parseRelease(f.node.Version)
	refuses := ""
	if f.opts.Enforce && ok && !r.refusesSandboxes() {
		refuses = "; enforce refuses containers there, not sandboxes"
	}
	switch {
	case !ok:
		return one(name, Unknown, "it depends on containerd's release", "")
	case !r.atLeast(release{1, 7, 0}):
		return one(name, Failed, fmt.Sprintf("containerd %s has no NRI that neighpin knows", f.node.Version), "Upgrade containerd to 1.7 or newer.")
	case !r.atLeast(release{2, 0, 0}):
		return one(name, OK, "containerd 1.7 asks NRI's plugins before a sandbox starts: pods of runc and gVisor are pinned then, those of Kata are not served"+refuses, "")
	case r.atLeast(release{2, 5, 0}):
		return one(name, Warning, "this release is newer than what neighpin was run on; on 2.x pods are pinned from the sandbox store, before they start"+refuses,
			"Look at the verdicts of gVisor pods: neighpin list says whether they are in time.")
	}
	return one(name, OK, "containerd 2.x: pods are pinned from its sandbox store, before they start; NRI, which comes later, annotates containers and refuses"+refuses, "")
}

// checkNRI never connects: whoever does is taken for a plugin.
func checkNRI(f facts) []Item {
	const name = "NRI"
	socket := f.opts.NRISocket
	turnOn := `Turn NRI on in containerd's configuration: disable = false in [plugins."io.containerd.nri.v1.nri"], and restart containerd; where it is on, set nriSocket to its socket_path and mount the folder.`
	d := f.opts.Daemon
	switch {
	case d != nil && d.Connected:
		return one(name, OK, "the daemon is connected at "+socket, "")
	case errors.Is(f.nriErr, fs.ErrNotExist):
		return one(name, Failed, socket+" does not exist: NRI is off, or somewhere else", turnOn)
	case f.nriErr != nil:
		return one(name, Unknown, f.nriErr.Error(), "")
	case f.socketsErr != nil || f.node.Version != "" && !f.listens(f.opts.ContainerdSocket):
		return one(name, Unknown, socket+" is there; whether somebody listens on it cannot be seen here", "")
	case !f.listens(socket):
		return one(name, Failed, socket+" is there, and nobody listens on it: it was left behind", turnOn)
	case d != nil:
		return one(name, Warning, fmt.Sprintf("somebody listens at %s, and the daemon is not connected: %s", socket, d.Error), "Look at the log of the daemon, and at containerd's for lines on NRI.")
	}
	return one(name, OK, "somebody listens at "+socket, "")
}

// handlerWait is how long a handler of the daemon may take: a second for a pin, half
// of one for the proof.
const handlerWait = 1500 * time.Millisecond

func checkRequestTimeout(f facts) []Item {
	const name = "NRI's request timeout"
	switch d := f.opts.Daemon; {
	case d == nil:
		return one(name, Unknown, "no daemon answers that could have been told", "")
	case d.RequestTimeout == 0:
		return one(name, Unknown, "the daemon was not told", "")
	case d.RequestTimeout < handlerWait:
		return one(name, Warning, fmt.Sprintf("%s: an answer of neighpin's may take %s on a busy node", d.RequestTimeout, handlerWait),
			`Set plugin_request_timeout in [plugins."io.containerd.nri.v1.nri"] of containerd's configuration to 2s or more.`)
	default:
		return one(name, OK, d.RequestTimeout.String(), "")
	}
}

// checkValidator: containerd does not tell, over any API, how its validator is
// configured.
func checkValidator(f facts) []Item {
	const name = "NRI's validator"
	r, ok := parseRelease(f.node.Version)
	switch {
	case !f.opts.Enforce:
		return one(name, OK, "not needed: enforce is off", "")
	case !ok:
		return one(name, Unknown, "containerd's release is not known", "")
	case !r.atLeast(release{2, 2, 0}):
		return one(name, Warning, "this release has none: while neighpin is away, pods start without it", "Use the wrapper where no pod may start unpinned, or upgrade containerd.")
	}
	return one(name, Unknown, "containerd does not tell whether default_validator is on",
		"To refuse pods while neighpin is away, turn default_validator on in containerd's configuration, and have pods require neighpin by annotation (deploy/examples). Required of all pods, it could not start itself.")
}

func checkHandlers(f facts) []Item {
	const name = "handlers"
	if !f.node.CRI {
		return one(name, Unknown, "the CRI plugin was not asked", "")
	}
	var selected, kata []string
	for _, r := range f.node.Runtimes {
		if f.opts.Selects(r.Name, r.Type) {
			selected = append(selected, r.Name)
			if strings.HasPrefix(r.Type, "io.containerd.kata") {
				kata = append(kata, r.Name)
			}
		}
		if r.Name == f.node.DefaultRuntime && f.opts.Selects("", r.Type) {
			selected = append(selected, "the default runtime ("+r.Name+")")
		}
	}
	running, ok := parseRelease(f.node.Version)
	switch {
	case len(selected) == 0:
		return one(name, Warning, "no runtime of this node matches handlers: "+strings.Join(f.runtimes(), ", "),
			"Set handlers to the handler that the RuntimeClass names, or leave it if pods opt in by annotation.")
	case len(kata) > 0 && ok && !running.atLeast(release{2, 0, 0}):
		return one(name, Warning, fmt.Sprintf("selected: %s; pods of %s are not served on containerd 1.7", strings.Join(selected, ", "), strings.Join(kata, ", ")), "Upgrade containerd for Kata.")
	}
	return one(name, OK, "selected: "+strings.Join(selected, ", "), "")
}

func (f facts) runtimes() (names []string) {
	for _, r := range f.node.Runtimes {
		names = append(names, r.Name)
	}
	return names
}

// checkPodAnnotations: what a runtime passes on from the pod reaches the sandbox's
// own OCI spec, which no plugin adjusts.
func checkPodAnnotations(f facts) []Item {
	const name = "pod_annotations"
	if !f.node.CRI {
		return one(name, Unknown, "the CRI plugin was not asked", "")
	}
	var open []string
	for _, r := range f.node.Runtimes {
		if slices.ContainsFunc(r.PodAnnotations, func(glob string) bool { ok, err := path.Match(glob, f.opts.Annotation); return ok && err == nil }) {
			open = append(open, fmt.Sprintf("%s (%s)", r.Name, strings.Join(r.PodAnnotations, ", ")))
		}
	}
	if len(open) > 0 {
		return one(name, Warning, fmt.Sprintf("pods of %s can write %s into their sandbox's OCI spec", strings.Join(open, "; "), f.opts.Annotation),
			"Take the pattern out of pod_annotations of that runtime in containerd's configuration, unless the wrapper writes the annotation.")
	}
	return one(name, OK, fmt.Sprintf("no runtime lets pods bring %s", f.opts.Annotation), "")
}

// noTruth are CNI plugins behind which the host knows no gateway's address.
var noTruth = [...]string{"macvlan", "ipvlan", "sriov", "ovs", "host-device", "tap"}

func checkCNI(f facts) []Item {
	const name = "CNI"
	switch {
	case !f.node.CRI:
		return one(name, Unknown, "the CRI plugin was not asked", "")
	case f.node.CNIStatus != "OK" && f.node.CNIStatus != "":
		return one(name, Warning, "containerd has loaded no network: "+f.node.CNIStatus, "Install a CNI plugin; until then no pod starts.")
	case len(f.node.CNI) == 0:
		return one(name, Unknown, "containerd does not say which plugins it calls", "")
	}
	chain := strings.Join(f.node.CNI, ", ")
	for _, plugin := range f.node.CNI {
		if slices.Contains(noTruth[:], plugin) && !f.opts.Learn {
			return one(name, Warning, fmt.Sprintf("%s: behind %s the host knows no gateway's address, so none is pinned", chain, plugin),
				"Set learned: probe if you trust the stations of that segment.")
		}
	}
	return one(name, OK, chain, "")
}
