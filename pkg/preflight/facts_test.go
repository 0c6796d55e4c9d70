// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/containerd"
)

// process starts one that waits, with namespaces of its own as asked, and returns its id.
func process(t *testing.T, unshare uintptr) int {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unshare, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// Namespaces that containerd mounts appear by themselves only to those in its mount
// namespace: whether this process is there is seen, or said to be unseen.
func TestWhetherContainerdsMountsAreOursIsSeenByItsProcess(t *testing.T) {
	pids, err := inode("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		node containerd.Node
		want sight
	}{
		"beside us":                       {containerd.Node{PID: uint64(process(t, 0)), PIDNS: pids}, yes},
		"with mounts of its own":          {containerd.Node{PID: uint64(process(t, syscall.CLONE_NEWNS)), PIDNS: pids}, no},
		"with process ids of its own":     {containerd.Node{PID: 1, PIDNS: pids + 1}, no},
		"ended since it answered":         {containerd.Node{PID: uint64(ended.Process.Pid), PIDNS: pids}, unseen},
		"1.7, which does not tell":        {containerd.Node{PID: 1}, unseen},
		"nobody, since it did not answer": {containerd.Node{}, unseen},
	} {
		if got := sameMounts(c.node); got != c.want {
			t.Errorf("containerd %s: %d, want %d", name, got, c.want)
		}
	}
}

func TestNamespacesInADirectoryAreCounted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cni-1", "cni-2", "cni-3"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The third is what a deletion that did not finish leaves: the file without its mount.
	nstest.New(t).MountAt(filepath.Join(dir, "cni-1"))
	nstest.New(t).MountAt(filepath.Join(dir, "cni-2"))
	link := filepath.Join(t.TempDir(), "netns")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	all, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if d := lookAtDirectory(link, all); d.holds != 2 || d.err != nil || d.path != link {
		t.Errorf("%+v, want two namespaces", d)
	}
	if d := lookAtDirectory(filepath.Join(dir, "cni-3"), all); !errors.Is(d.err, unix.ENOTDIR) {
		t.Errorf("a file: %+v", d)
	}
	if err := os.RemoveAll(link); err != nil {
		t.Fatal(err)
	}
	if d := lookAtDirectory(link, all); !errors.Is(d.err, fs.ErrNotExist) {
		t.Errorf("nothing there: %+v", d)
	}
	// Without a list of mounts nothing is known of what will appear, and nothing guessed.
	if all, err = readMounts(filepath.Join(link, "mountinfo")); err == nil {
		t.Error("mounts where there is no mountinfo")
	}
	for _, all := range []mounts{all, {}} {
		if d := lookAtDirectory(dir, all); d.receives != unseen || d.holds != 2 {
			t.Errorf("without mountinfo: %+v", d)
		}
	}
}

func TestTheStateDirectoryMayBeMissingButNotItsParent(t *testing.T) {
	dir := t.TempDir()
	if err := writable(filepath.Join(dir, "neighpin")); err != nil {
		t.Errorf("a folder that can be made: %v", err)
	}
	if err := writable(filepath.Join(dir, "run", "neighpin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder whose parent is missing: %v", err)
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := writable(dir); !errors.Is(err, unix.EROFS) {
		t.Errorf("a mount that is read-only: %v", err)
	}
}

// A folder of the node's may hold anything under a name that ends in .link.
func TestLinkFilesThatAreNoneDecideNothing(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc/systemd/network")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "10-folder.link"), 0o755),
		os.Symlink("/nowhere", filepath.Join(dir, "11-dangling.link")),
		os.WriteFile(filepath.Join(dir, "12-huge.link"), []byte("[Match]\nDriver=veth\n#"+strings.Repeat("x", maxLinkFile)), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if p := readLinkPolicy(root); p.seen {
		t.Errorf("seen: %+v", p)
	}
	if err := os.WriteFile(filepath.Join(dir, "13-no-match.link"), []byte("[Link]\n; MACAddressPolicy=none\nMACAddressPolicy=persistent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := readLinkPolicy(root); !p.seen || p.file != "" {
		t.Errorf("a file without conditions, which systemd ignores: %+v", p)
	}
}

func TestAReportHasFailedWithOneOfItsItems(t *testing.T) {
	good := Report{Items: judged(fine())}
	if good.Failed() {
		t.Errorf("a good node: %+v", good)
	}
	f := fine()
	f.capabilities = 0
	if bad := (Report{Items: judged(f)}); !bad.Failed() {
		t.Errorf("without rights: %+v", bad)
	}
}
