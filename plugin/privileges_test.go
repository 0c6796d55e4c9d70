// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/internal/status"
)

// rights are what one thread may do, by the names that proc(5) has for them.
type rights struct {
	Inh, Prm, Eff, Bnd, Amb uint64
	NoNewPrivs              uint64
}

var rightsLine = regexp.MustCompile(`(?m)^(?:Cap)?(Inh|Prm|Eff|Bnd|Amb|NoNewPrivs):\s+([0-9a-f]+)$`)

// threads reads the rights of every thread of a process.
func threads(t *testing.T, pid int) []rights {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []rights
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		var r rights
		fields := map[string]*uint64{"Inh": &r.Inh, "Prm": &r.Prm, "Eff": &r.Eff, "Bnd": &r.Bnd, "Amb": &r.Amb, "NoNewPrivs": &r.NoNewPrivs}
		for _, m := range rightsLine.FindAllStringSubmatch(string(data), -1) {
			if *fields[m[1]], err = strconv.ParseUint(m[2], 16, 64); err != nil {
				t.Fatal(err)
			}
			delete(fields, m[1])
		}
		if len(fields) != 0 {
			t.Fatalf("%s lacks %d lines:\n%s", task, len(fields), data)
		}
		all = append(all, r)
	}
	return all
}

func bits(capabilities ...int) (set uint64) {
	for _, c := range capabilities {
		set |= 1 << c
	}
	return set
}

// program builds the binary.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "neighpin")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// logged has a command write to a file, which log reads.
func logged(t *testing.T, cmd *exec.Cmd) (log func() string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	cmd.Stdout, cmd.Stderr = file, file
	return func() string {
		said, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(said)
	}
}

// startDaemon runs the binary as its own process in a namespace, behind a command
// such as setpriv, until the test ends. It returns when the daemon is at work, with
// its log.
func startDaemon(t *testing.T, binary string, before []string, args ...string) (pid int, log func() string) {
	t.Helper()
	state := t.TempDir()
	argv := slices.Concat(before, []string{binary, "plugin", "--log-level", "debug", "--containerd-socket", "", "--state-dir", state,
		"--netns-dirs", t.TempDir(), "--nri-socket", filepath.Join(state, "none.sock")}, args)
	cmd := exec.Command(argv[0], argv[1:]...)
	log = logged(t, cmd)
	if err := nstest.New(t).Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the daemon ended with %v and said:\n%s", err, log())
		}
	})
	nstest.Eventually(t, "the daemon to be at work", func() bool { return status.Live(t.Context(), state) == nil })
	return cmd.Process.Pid, log
}

// Each thread of the daemon has the rights that its configuration needs and that it
// was given, and can gain none.
func TestTheDaemonKeepsOnlyTheRightsThatItNeeds(t *testing.T) {
	binary := program(t)
	const sys, admin, broadcast, raw, bpf, bind = unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BROADCAST, unix.CAP_NET_RAW, unix.CAP_BPF, unix.CAP_NET_BIND_SERVICE
	container := func(granted string) []string {
		return []string{"setpriv", "--bounding-set=-all," + granted}
	}
	for name, c := range map[string]struct {
		before []string
		args   []string
		want   uint64
		says   string
	}{
		"root":                    {want: bits(sys, admin, broadcast)},
		"root that learns":        {args: []string{"--learned", "probe"}, want: bits(sys, admin, broadcast, raw)},
		"root that observes":      {args: []string{"--observe"}, want: bits(sys, admin, broadcast, bpf)},
		"root with a low port":    {args: []string{"--metrics-address", "127.0.0.1:80"}, want: bits(sys, admin, broadcast, bind), says: "serving metrics"},
		"root with a high port":   {args: []string{"--metrics-address", "127.0.0.1:9717"}, want: bits(sys, admin, broadcast)},
		"the DaemonSet":           {before: container("+sys_admin,+net_admin,+net_broadcast"), want: bits(sys, admin, broadcast)},
		"a right too many":        {before: container("+sys_admin,+net_admin,+net_broadcast,+setpcap,+dac_override,+net_raw"), want: bits(sys, admin, broadcast)},
		"a right that is missing": {before: container("+sys_admin,+net_admin"), args: []string{"--learned", "probe"}, want: bits(sys, admin)},
	} {
		t.Run(name, func(t *testing.T) {
			pid, log := startDaemon(t, binary, c.before, c.args...)
			all := threads(t, pid)
			if len(all) < 2 {
				t.Errorf("%d threads, want several: of one nothing could be seen", len(all))
			}
			for _, got := range all {
				if want := (rights{Prm: c.want, Eff: c.want, Bnd: c.want, NoNewPrivs: 1}); got != want {
					t.Errorf("a thread has %x, want %x", got, want)
				}
			}
			nstest.Eventually(t, "what needs a right to work", func() bool { return strings.Contains(log(), c.says) })
			if said := log(); strings.Contains(said, "pods are not observed") || !strings.Contains(said, "all other capabilities are given up") {
				t.Error("it says something else")
			}
		})
	}
}

// The namespace of process 1 is the host's as well, and it shows itself only to who
// has all of process 1's rights. The daemon looks before it gives up its own.
func TestTheDaemonKnowsProcessOnesNamespaceWithoutItsRights(t *testing.T) {
	one, _ := newPod(t)
	pod, _ := newPod(t)
	paths := map[string]string{"one": one.Mount(), "pod": pod.Mount()} // before the daemon has mounts of its own
	dir, err := os.MkdirTemp("", "nri")                                // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "nri.sock")
	nri := adapt(t, adaptation.WithSocketPath(socket), adaptation.WithPluginPath(filepath.Join(dir, "plugins")), adaptation.WithPluginConfigPath(filepath.Join(dir, "conf.d")))
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", `nsenter --net="$0" "$@" & wait`,
		nstest.New(t).Mount(), program(t), "plugin", "--containerd-socket", "", "--state-dir", dir+"/state", "--netns-dirs", dir, "--nri-socket", socket, "--handlers", "special")
	log := logged(t, cmd)
	if err := one.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = cmd.Process.Kill(), cmd.Wait() // by a signal, as was wished
		if t.Failed() {
			t.Logf("the daemon said:\n%s", log())
		}
	})
	nstest.Eventually(t, "the daemon to be ready", func() bool { return status.Ready(t.Context(), dir+"/state") == nil })
	start := func(id string) {
		sandbox := &api.PodSandbox{
			Id: id, Name: id, Uid: id, Namespace: "shop", RuntimeHandler: "special",
			Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "network", Path: paths[id]}}},
		}
		if err := nri.RunPodSandbox(t.Context(), &api.RunPodSandboxRequest{Pod: sandbox}); err != nil {
			t.Fatal(err)
		}
	}
	pins := func(ns *nstest.NS) int { return strings.Count(ns.Output("neigh", "show"), "PERMANENT") }
	// The runtime's side takes a plugin for one a moment after the plugin has heard that it is.
	nstest.Eventually(t, "the pod to be pinned", func() bool { start("pod"); return pins(pod) == 2 })
	start("one") // which returns when the namespace has been looked at
	if got := pins(one); got != 0 {
		t.Errorf("process 1's namespace has %d permanent entries", got)
	}
}
