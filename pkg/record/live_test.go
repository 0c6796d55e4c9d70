// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

func saveLive(t *testing.T, records *Dir, rec Record) (path, text string) {
	t.Helper()
	if err := records.SaveLive(rec); err != nil {
		t.Fatal(err)
	}
	folder := records.LiveFolder(rec.ID)
	if folder == "" {
		t.Fatal("no folder")
	}
	path = filepath.Join(folder, "neighbors.json") // as documented: what a container opens
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(data)
}

// Whoever a container runs as reads the file, and nobody but root changes it,
// whatever umask the daemon was started with.
func TestALiveFileIsReadableWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o077} {
		stateDir, records := opened(t)
		rec := sample("a")
		want, err := rec.annotation()
		if err != nil || want == "" {
			t.Fatal(want, err)
		}
		old := unix.Umask(umask)
		path, text := saveLive(t, records, rec)
		unix.Umask(old)
		if text != want {
			t.Errorf("the file says %q, want %q", text, want)
		}
		for path, want := range map[string]fs.FileMode{
			path: 0o644, filepath.Dir(path): fs.ModeDir | 0o755, filepath.Join(stateDir, "files"): fs.ModeDir | 0o755,
		} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("umask %03o: %s: %v, %v, want %v", umask, path, info.Mode(), err, want)
			}
		}
	}
}

// happened reads the names of the files that an inotify instance saw something about,
// each with what it saw.
func happened(t *testing.T, fd int) (list []string) {
	t.Helper()
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[uint32]string{unix.IN_CREATE: "created", unix.IN_MODIFY: "written", unix.IN_MOVED_TO: "put", unix.IN_MOVED_FROM: "taken", unix.IN_DELETE: "removed"}
	for b := buf[:n]; len(b) > 0; {
		mask, length := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:]) // inotify(7)
		name := b[unix.SizeofInotifyEvent:][:length]
		list = append(list, string(bytes.TrimRight(name, "\x00"))+" "+kinds[mask])
		b = b[unix.SizeofInotifyEvent+length:]
	}
	return list
}

// Containers see the folder: in it the file changes at once, by one replacement, and
// only if it has something else to say.
func TestALiveFileIsReplacedInOneStepOrNotAtAll(t *testing.T) {
	_, records := opened(t)
	rec := sample("a")
	path, first := saveLive(t, records, rec)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVE|unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	if _, text := saveLive(t, records, rec); text != first {
		t.Errorf("the same record: %q", text)
	}
	nothing := rec
	nothing.CapturedAt = time.Time{} // a sandbox that has not been looked at has nothing to say
	if _, text := saveLive(t, records, nothing); text != first {
		t.Errorf("a record that says nothing: %q", text)
	}
	if list := happened(t, fd); list != nil {
		t.Errorf("nothing to say, and in the folder: %q", list)
	}
	rec.Neighbors[0].LLAddr = "02:00:00:00:00:02" // of the same length
	_, second := saveLive(t, records, rec)
	if len(second) != len(first) || !strings.Contains(second, "02:00:00:00:00:02") {
		t.Errorf("first %q, then %q", first, second)
	}
	if list := happened(t, fd); !slices.Equal(list, []string{"neighbors.json put"}) {
		t.Errorf("in the folder: %q", list)
	}
}

// A container that may mount can put anything there. It is replaced, not followed, not
// waited for, and not taken for the file because it begins like it.
func TestWhatAContainerPutsInPlaceOfItsLiveFileIsReplaced(t *testing.T) {
	for kind, put := range map[string]func(path, text string) error{
		"a link to a copy": func(path, text string) error {
			return errors.Join(os.WriteFile(path+"2", []byte(text), 0o600), os.Symlink(path+"2", path))
		},
		"a link as long":    func(path, text string) error { return os.Symlink(strings.Repeat("x", len(text)), path) },
		"a pipe":            func(path, _ string) error { return unix.Mkfifo(path, 0o644) },
		"more behind it":    func(path, text string) error { return os.WriteFile(path, []byte(text+" "), 0o644) },
		"a text as long":    func(path, text string) error { return os.WriteFile(path, []byte(strings.ToUpper(text)), 0o644) },
		"nothing":           func(string, string) error { return nil },
		"a file of nothing": func(path, _ string) error { return os.WriteFile(path, nil, 0o600) },
		"the file, hidden":  func(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) },
	} {
		_, records := opened(t)
		path, text := saveLive(t, records, sample("a"))
		if err := errors.Join(os.Remove(path), put(path, text)); err != nil {
			t.Fatal(kind, err)
		}
		if _, again := saveLive(t, records, sample("a")); again != text {
			t.Errorf("%s: the file says %q", kind, again)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", kind, info, err)
		}
	}
	_, records := opened(t)
	path, _ := saveLive(t, records, sample("a"))
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := records.SaveLive(sample("a")); err == nil || !strings.Contains(err.Error(), "sandbox a: ") {
		t.Errorf("over a folder: %v", err)
	}
	if got := names(t, records.live); !slices.Equal(got, []string{"a"}) {
		t.Errorf("what could not be put there is left: %q", got)
	}
}

// While a container puts something else there again and again, whoever looks whether
// the file says something goes on. A pipe would hold it up, with a writer that is
// silent as well as without any.
func TestALiveFileThatIsSwappedWhileItIsReadHoldsNobodyUp(t *testing.T) {
	for _, writer := range []bool{false, true} {
		_, records := opened(t)
		path, text := saveLive(t, records, sample("a"))
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(pipe, uint32(liveMode)); err != nil {
			t.Fatal(err)
		}
		if writer {
			held, err := os.OpenFile(pipe, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = held.Close() }()
		}
		stop, looked := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(looked)
			for {
				select {
				case <-stop:
					return
				default:
					says(path, text)
				}
			}
		}()
		for range 20_000 {
			if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, pipe, unix.RENAME_EXCHANGE); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		select {
		case <-looked:
		case <-time.After(10 * time.Second):
			t.Fatalf("held up by a pipe (with a writer: %t)", writer)
		}
	}
}

// It is looked at for each container that starts.
func TestLookingAtALiveFileLeavesNothingOpen(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes what was forgotten
	_, records := opened(t)
	path, text := saveLive(t, records, sample("a"))
	before := len(names(t, "/proc/self/fd"))
	for range 50 {
		if !says(path, text) || says(path, text+" ") {
			t.Fatal("what it says is not seen")
		}
	}
	if after := len(names(t, "/proc/self/fd")); after >= before+50 {
		t.Errorf("%d files are open, and were %d", after, before)
	}
}

// A full disk costs the change, and neither the file nor its old text.
func TestAFullDiskLeavesTheLiveFileAsItWas(t *testing.T) {
	for _, room := range []string{ // for one file of one page in two folders
		fmt.Sprintf("size=%d", os.Getpagesize()), "nr_inodes=4",
	} {
		stateDir := t.TempDir()
		if err := unix.Mount("none", stateDir, "tmpfs", 0, "mode=0755,"+room); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nstest.Unmount(stateDir) })
		records := In(stateDir)
		rec := sample("a")
		path, text := saveLive(t, records, rec)
		rec.Neighbors[0].LLAddr = "02:00:00:00:00:02"
		if err := records.SaveLive(rec); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: error %v", room, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%s: the file says %q, %v", room, now, err)
		}
		if got := names(t, records.live); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: left: %q", room, got)
		}
	}
}

// Before a sandbox has been looked at its containers get the folder, without the file.
func TestAFolderComesBeforeItsLiveFile(t *testing.T) {
	records := In(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if got := records.LiveFolder("a"); got != "" {
		t.Errorf("a folder that is not there: %q", got)
	}
	rec := sample("a")
	rec.CapturedAt = time.Time{}
	if err := records.SaveLive(rec); err != nil {
		t.Fatal(err)
	}
	if folder := records.LiveFolder("a"); folder == "" || len(names(t, folder)) != 0 {
		t.Errorf("folder %q", folder)
	}
	broken := sample("b")
	broken.NetNS.Cookie = 0
	if err := records.SaveLive(broken); err == nil || records.LiveFolder("b") != "" {
		t.Errorf("a record without a namespace, which no container could check: %v", err)
	}
}

// A mount goes by a path that does not depend on who reads it, and by a folder that
// is one.
func TestALiveFolderIsARealOneByItsWholePath(t *testing.T) {
	t.Chdir(t.TempDir())
	records := In("state")
	path, _ := saveLive(t, records, sample("a"))
	if !filepath.IsAbs(path) {
		t.Errorf("path %q", path)
	}
	write(t, filepath.Join("state", "files", "file"), "")
	if err := os.Symlink("a", filepath.Join("state", "files", "link")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"file", "link", "none", "", ".", "..", "../files", "a/../a"} {
		if folder := records.LiveFolder(id); folder != "" {
			t.Errorf("%q: %q", id, folder)
		}
	}
}

// An id that could lead elsewhere is nobody's.
func TestALiveFileOfNoIDIsNeitherWrittenNorRemoved(t *testing.T) {
	stateDir, records := opened(t)
	save(t, records, sample("a"))
	saveLive(t, records, sample("a"))
	for _, id := range []string{"", ".", "..", "../sandboxes", "../new", "a/b"} {
		rec := sample("a")
		rec.ID = id
		if err := records.SaveLive(rec); err == nil {
			t.Errorf("%q is written", id)
		}
		if err := records.DeleteLive(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if got := names(t, stateDir); !slices.Equal(got, []string{"files", "sandboxes"}) {
		t.Errorf("the state directory has %q", got)
	}
	for _, dir := range []string{"files", "sandboxes"} {
		if got := names(t, filepath.Join(stateDir, dir)); len(got) != 1 {
			t.Errorf("%s has %q", dir, got)
		}
	}
}

// A container that may mount can leave more in its folder than the file.
func TestALiveFileGoesWithItsFolder(t *testing.T) {
	_, records := opened(t)
	path, _ := saveLive(t, records, sample("a"))
	other, _ := saveLive(t, records, sample("b"))
	folder := filepath.Dir(path)
	if err := os.MkdirAll(filepath.Join(folder, "of", "a", "container"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is none
		if err := records.DeleteLive("a"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	}
	held := filepath.Join(filepath.Dir(other), "held")
	write(t, held, "")
	nstest.New(t).MountAt(held)
	if err := records.DeleteLive("b"); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "sandbox b: ") {
		t.Errorf("a folder with a mount in it: %v", err)
	}
}

// What is in the way is left alone, and told of.
func TestALiveFileThatCannotBeWrittenIsToldOf(t *testing.T) {
	stateDir, records := opened(t)
	files := filepath.Join(stateDir, "files")
	write(t, files, "")
	if err := records.SaveLive(sample("a")); !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), "sandbox a: ") {
		t.Errorf("a file where the folders should be: %v", err)
	}
	if info, err := os.Lstat(files); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file in the way: %v, %v", info, err)
	}
	if err := records.SweepLive(); !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), "list live files") {
		t.Errorf("swept: %v", err)
	}
	if err := os.Remove(files); err != nil {
		t.Fatal(err)
	}
	if err := records.SweepLive(); err != nil {
		t.Errorf("without any: %v", err)
	}
}

// What an earlier process left goes once nobody can be making it; a record, though it
// cannot be read, keeps the folder of its sandbox.
func TestLiveFilesThatNobodyHasARecordOfAreSwept(t *testing.T) {
	stateDir, records := opened(t)
	files := filepath.Join(stateDir, "files")
	save(t, records, sample("kept"))
	write(t, filepath.Join(stateDir, "sandboxes", "unread.json"), "{")
	write(t, filepath.Join(stateDir, "sandboxes", "broken.json.broken"), "{")
	for _, name := range []string{"broken", "gone", "held", "kept", "last", "unread", "~", "young"} {
		if err := os.MkdirAll(filepath.Join(files, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(files, name, LiveFileName), "{}")
	}
	nstest.New(t).MountAt(filepath.Join(files, "held", LiveFileName))
	for _, name := range []string{".neighbors.json1", ".neighbors.json2"} {
		write(t, filepath.Join(files, name), "{")
	}
	for _, name := range names(t, files) {
		if name != "young" && name != ".neighbors.json2" {
			age(t, filepath.Join(files, name))
		}
	}
	if err := records.SweepLive(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a folder that cannot be removed: %v", err)
	}
	// "~" can be no sandbox's, so that no process of ours made it.
	if got, want := names(t, files), []string{".neighbors.json2", "broken", "held", "kept", "unread", "young", "~"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}
