// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/neighbor"
	"github.com/neighpin/neighpin/pkg/netns"
	"github.com/neighpin/neighpin/pkg/record"
	"github.com/neighpin/neighpin/pkg/selection"
)

// victimEnv makes the test's program an engine that waits to be killed.
const victimEnv = "NEIGHPIN_TEST_VICTIM"

// node that a victim works on.
type doomed struct {
	StateDir, NetNSDir string
	Records            []containerd.Record
}

// victim runs an engine until the process is killed. It says when it begins.
func victim(text string) {
	var d doomed
	store := &fakeStore{}
	err := json.Unmarshal([]byte(text), &d)
	if err == nil {
		for _, rec := range d.Records {
			store.put(rec)
		}
		var engine *Engine
		fmt.Fprintln(os.Stdout, "begins")
		engine, err = New(Options{
			Selection: selection.Rules{Handlers: []string{"runc"}, Annotate: []string{"runc"}, PodAnnotations: selection.Allow},
			Store:     store, StateDir: d.StateDir, NetNSDirs: []string{d.NetNSDir}, MaxNeighbors: 16, Reporter: &log{},
		})
		if err == nil {
			err = engine.Start()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	select {}
}

// killing is a node on which one engine after the other is killed.
type killing struct {
	*node
	random *rand.Rand
	pods   []*pod
	made   int

	bare      int // pins that only the mark knew after a kill
	temporary int // files that were being written, which a start removes when they are old
}

// Killed at any instruction: at random moments around the begin, the pins, the
// repairs and the records of pods that come and go. What is on disk after each
// kill is whole and true, and whoever comes next knows all that is ours.
func TestKilledAtAnyInstruction(t *testing.T) {
	const rounds = 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killing{
		node:   &node{t: t, store: &fakeStore{}, stateDir: t.TempDir(), netnsDir: t.TempDir(), outside: nstest.Own(t), compare: time.Hour},
		random: rand.New(rand.NewPCG(seed, 0)),
	}
	for range rounds {
		k.change()
		k.kill()
		k.check()
	}
	t.Logf("%d kills: %d pins were in no record yet, %d files were being written", rounds, k.bare, k.temporary)
	k.recover()
}

// change lets one pod come and, when there are several, one go.
func (k *killing) change() {
	k.t.Helper()
	k.made++
	name := fmt.Sprintf("k%d", k.made)
	p := k.newPodAs(name, "runc", typeRunc)
	k.veth(p.NS, "v"+name)
	p.IP("address add 10.88.0.2/24 dev eth0", "route add default via "+gateway4)
	p.rec.NetworkReady = true
	k.pods = append(k.pods, p)
	if len(k.pods) > 3 {
		k.pods[0].remove()
		k.pods = k.pods[1:]
	}
}

// kill runs an engine and kills it somewhere, while other ends of pods with a
// record change their addresses and their pins are flushed.
func (k *killing) kill() {
	k.t.Helper()
	d := doomed{StateDir: k.stateDir, NetNSDir: k.netnsDir}
	var stirred []*pod
	for _, p := range k.pods {
		d.Records = append(d.Records, p.rec)
		if _, err := record.In(k.stateDir).Load(p.rec.ID); err == nil {
			stirred = append(stirred, p)
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "begins" {
		k.t.Errorf("the engine does not begin: %q", lines.Text())
	}
	after := time.Duration(k.random.Int64N(int64(60 * time.Millisecond)))
	die := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer die.Stop()
	if len(stirred) > 0 {
		p := stirred[k.random.IntN(len(stirred))]
		k.outside.IP(fmt.Sprintf("link set v%s address 02:00:00:00:%02x:%02x", p.rec.ID, k.made, k.random.IntN(256)))
		_, _ = p.TryIP("neigh del " + gateway4 + " dev eth0") // may be gone
	}
	if lines.Scan() {
		k.t.Errorf("the engine ended by itself: %s", lines.Text())
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGKILL {
		k.t.Errorf("the engine ended with %v", cmd.ProcessState)
	}
}

// check looks at what a kill has left.
func (k *killing) check() {
	k.t.Helper()
	records := record.In(k.stateDir)
	all, err := records.List()
	if err != nil {
		k.t.Errorf("half a record: %v", err)
	}
	known := make(map[uint64]record.Record)
	for _, rec := range all {
		known[rec.NetNS.Cookie] = rec
	}
	for _, p := range k.pods {
		rec, recorded := known[p.Cookie()]
		if recorded && (rec.ID != p.rec.ID || len(rec.Foreign()) > 0) {
			k.t.Errorf("pod %s has the record %+v", p.rec.ID, rec)
		}
		for line := range strings.Lines(p.permanent()) {
			if !strings.Contains(line, "proto 177") {
				k.t.Errorf("pod %s has %q, without the mark", p.rec.ID, line)
			}
			if !recorded {
				k.bare++
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(k.stateDir, "sandboxes"))
	if err != nil && !os.IsNotExist(err) {
		k.t.Error(err)
	}
	k.temporary = 0
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			k.temporary++
		}
	}
}

// recover starts an engine that lives, and takes everything back at the end.
func (k *killing) recover() {
	k.t.Helper()
	for _, p := range k.pods {
		k.store.put(p.rec)
	}
	k.handlers = []string{"runc"}
	k.start()
	k.t.Cleanup(k.engine.Close)
	for _, p := range k.pods {
		want := fmt.Sprintf("%s dev eth0 lladdr %s PERMANENT proto 177", gateway4, k.outside.MAC("v"+p.rec.ID))
		k.eventually("the true pin of "+p.rec.ID, func() bool { return strings.Join(strings.Fields(p.permanent()), " ") == want })
		k.eventually("the record of "+p.rec.ID, func() bool {
			rec, err := k.engine.records.Load(p.rec.ID)
			return err == nil && len(rec.Neighbors) == 1 && rec.Neighbors[0].Source == neighbor.SourcePeer && strings.Contains(want, string(rec.Neighbors[0].LLAddr))
		})
	}
	k.eventually("records of pods that are gone to go", func() bool { return len(k.engine.Status().Sandboxes) == len(k.pods) })
	k.engine.Close()
	host, err := netns.NewHost()
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = host.Close() }()
	undone, err := UndoAll(k.t.Context(), record.In(k.stateDir), host)
	if err != nil || len(undone) != len(k.pods) {
		k.t.Errorf("%d taken back, %v, want %d", len(undone), err, len(k.pods))
	}
	for _, p := range k.pods {
		if left := p.permanent(); left != "" {
			k.t.Errorf("pod %s keeps %s", p.rec.ID, left)
		}
	}
}
