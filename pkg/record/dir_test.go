// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/neighbor"
)

// opened is a state directory of the test's own, and its records.
func opened(t *testing.T) (stateDir string, records *Dir) {
	t.Helper()
	stateDir = t.TempDir()
	records, err := Open(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	return stateDir, records
}

func save(t *testing.T, records *Dir, recs ...Record) {
	t.Helper()
	for _, rec := range recs {
		if err := records.Save(rec); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// age makes a file an hour old.
func age(t *testing.T, path string) {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// names are what a folder holds.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

// Whoever can write there could make neighpin write entries of their choice.
func TestAStateDirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"by its group":  func(dir string) error { return os.Chmod(dir, 0o770) },
		"by others":     func(dir string) error { return os.Chmod(dir, 0o702) },
		"by its owner":  func(dir string) error { return os.Chown(dir, 1, -1) },
		"by all of all": func(dir string) error { return os.Chmod(dir, 0o1777) },
	} {
		for _, part := range []string{".", "sandboxes"} {
			stateDir, records := opened(t)
			if err := records.Trusted(); err != nil {
				t.Fatal(err)
			}
			if err := spoil(filepath.Join(stateDir, part)); err != nil {
				t.Fatal(err)
			}
			if err := records.Trusted(); !errors.Is(err, ErrUntrusted) {
				t.Errorf("%s can be written to %s: %v", part, name, err)
			}
			if _, err := Open(stateDir); !errors.Is(err, ErrUntrusted) {
				t.Errorf("%s can be written to %s, and is opened: %v", part, name, err)
			}
		}
	}
	if err := In(filepath.Join(t.TempDir(), "none")).Trusted(); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// A record names pods and addresses; what reads it is neighpin, as root.
func TestARecordIsAFileForRootAlone(t *testing.T) {
	made, _ := opened(t)
	later := filepath.Join(t.TempDir(), "run", "neighpin")
	rec := sample("a1")
	rec.Version = 0
	save(t, In(later), rec)
	for path, want := range map[string]fs.FileMode{
		filepath.Join(made, "sandboxes"):             fs.ModeDir | 0o700,
		filepath.Join(later, "sandboxes"):            fs.ModeDir | 0o700,
		filepath.Join(later, "sandboxes", "a1.json"): 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if got := names(t, filepath.Join(later, "sandboxes")); !slices.Equal(got, []string{"a1.json"}) {
		t.Errorf("beside the record there are %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(later, "sandboxes", "a1.json")); err != nil || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("no line of text: %q, %v", text, err)
	}
	if rec, err := In(later).Load("a1"); err != nil || rec.Version != version {
		t.Errorf("the file is of version %d, %v", rec.Version, err)
	}
}

// lock takes the lock of a state directory as another process would; ok is false when somebody has it.
func lock(t *testing.T, stateDir string, how int) (free func(), ok bool) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(stateDir, "records.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err = unix.Flock(int(file.Fd()), how|unix.LOCK_NB); err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() { _ = file.Close() })
	t.Cleanup(free)
	return free, err == nil
}

// The daemon and the wrapper write about one sandbox in the same moment: each sees what the other wrote.
func TestWhoMergesIsAloneAndSeesWhatIsThere(t *testing.T) {
	stateDir, records := opened(t)
	asked := false
	merge := func(old, rec Record) Record {
		asked = true
		if free, got := lock(t, stateDir, unix.LOCK_SH); got {
			free()
			t.Error("another process could write in between")
		}
		rec.Repins += old.Repins
		return rec
	}
	rec := sample("a1")
	rec.Repins = 1
	if err := records.Merge(rec, merge); err != nil || asked {
		t.Errorf("nothing to merge with: asked %t, %v", asked, err)
	}
	if err := records.Merge(rec, merge); err != nil || !asked {
		t.Errorf("something to merge with: asked %t, %v", asked, err)
	}
	if rec, err := records.Load("a1"); err != nil || rec.Repins != 2 {
		t.Errorf("%d, %v, want both", rec.Repins, err)
	}
	free, got := lock(t, stateDir, unix.LOCK_EX)
	if !got {
		t.Fatal("the lock was not given back")
	}
	// One that is written meanwhile is waited for.
	time.AfterFunc(10*time.Millisecond, free)
	if err := records.Merge(rec, func(old, rec Record) Record { free(); return merge(old, rec) }); err != nil {
		t.Error(err)
	}
	// What cannot be read is written over.
	write(t, filepath.Join(stateDir, "sandboxes", "a1.json"), "{")
	if err := records.Merge(rec, merge); err != nil {
		t.Error(err)
	}
	if rec, err := records.Load("a1"); err != nil || rec.Repins != 1 {
		t.Errorf("%d, %v, want the new one's", rec.Repins, err)
	}
}

// A process that was stopped while it had the lock costs nobody a pin.
func TestNobodyWaitsLongForALockThatIsNotGivenBack(t *testing.T) {
	stateDir, records := opened(t)
	if _, got := lock(t, stateDir, unix.LOCK_EX); !got {
		t.Fatal("no lock")
	}
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			if err := records.Merge(sample(fmt.Sprint("a", i)), func(_, rec Record) Record { return rec }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := records.List(); err != nil || len(list) != 3 {
		t.Errorf("%d records, %v", len(list), err)
	}
}

func TestEachRecordIsReadOnceByHoweverMany(t *testing.T) {
	for _, readers := range []int{1, 3, 40} {
		_, records := opened(t)
		want := make(map[string]int)
		for i := range 20 {
			id := fmt.Sprintf("a%02d", i)
			save(t, records, sample(id))
			want[id] = 1
		}
		var mu sync.Mutex
		got := make(map[string]int)
		err := records.LoadEach(readers, func(rec Record) {
			mu.Lock()
			defer mu.Unlock()
			got[rec.ID]++
		})
		mu.Lock()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%d readers: %v, %v", readers, got, err)
		}
		mu.Unlock()
	}
}

// Another process writes and removes records while they are read.
func TestWhatComesAndGoesMeanwhileIsNoError(t *testing.T) {
	stateDir, records := opened(t)
	save(t, records, sample("a"), sample("b"))
	dir := filepath.Join(stateDir, "sandboxes")
	for _, name := range []string{".a.json123", ".b.json456", "c.json.broken", "note"} {
		write(t, filepath.Join(dir, name), "{")
	}
	age(t, filepath.Join(dir, ".b.json456")) // of a process that was killed
	err := records.LoadEach(1, func(rec Record) {
		if rec.ID != "a" {
			t.Errorf("record %q", rec.ID)
		}
		if err := records.Delete("b"); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if got, want := names(t, dir), []string{".a.json123", "a.json", "note"}; !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
	if list, err := In(filepath.Join(stateDir, "none")).List(); err != nil || list != nil {
		t.Errorf("where nothing was written: %v, %v", list, err)
	}
}

// A file that says what no record says is set aside, and its sandbox can be known by that. What is no file of ours at all stays where it is.
func TestWhatIsNoRecordIsNotTaken(t *testing.T) {
	for name, text := range map[string]string{
		"half":             `{"version":1,"id":"a"`,
		"a later release":  `{"version":2,"id":"a","netns":{"path":"/p","cookie":1}}`,
		"no release":       `{"id":"a","netns":{"path":"/p","cookie":1}}`,
		"no namespace":     `{"version":1,"id":"a","netns":{"path":"/p"}}`,
		"a path of nobody": `{"version":1,"id":"a","netns":{"path":"p","cookie":1}}`,
		"no id":            `{"version":1,"id":"../a","netns":{"path":"/p","cookie":1}}`,
	} {
		stateDir, records := opened(t)
		path := filepath.Join(stateDir, "sandboxes", "a.json")
		write(t, path, text)
		if records.WasBroken("a") {
			t.Errorf("%s: set aside before it was read", name)
		}
		if err := records.LoadEach(1, func(rec Record) { t.Errorf("%s: taken %+v", name, rec) }); err == nil || !records.WasBroken("a") {
			t.Errorf("%s: not set aside: %v", name, err)
		}
	}
	outside, others := opened(t)
	save(t, others, sample("a"))
	elsewhere := filepath.Join(outside, "sandboxes", "a.json")
	text, err := os.ReadFile(filepath.Join("testdata", "sandboxes", names(t, "testdata/sandboxes")[0]))
	if err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(path string) error{
		"another sandbox's": func(path string) error { return os.WriteFile(path, text, 0o600) },
		"a link":            func(path string) error { return os.Symlink(elsewhere, path) },
		"a pipe":            func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a folder":          func(path string) error { return os.Mkdir(path, 0o700) },
		"without end": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, maxFile+1))
		},
	} {
		stateDir, records := opened(t)
		if err := put(filepath.Join(stateDir, "sandboxes", "a.json")); err != nil {
			t.Fatal(err)
		}
		if err := records.LoadEach(1, func(rec Record) { t.Errorf("%s: taken %+v", name, rec) }); err == nil || !strings.Contains(err.Error(), "a.json") {
			t.Errorf("%s: error %v does not name the file", name, err)
		}
		if got := names(t, filepath.Join(stateDir, "sandboxes")); !slices.Equal(got, []string{"a.json"}) {
			t.Errorf("%s: left are %q", name, got)
		}
	}
}

func TestTheLongestIDHasARecord(t *testing.T) {
	_, records := opened(t)
	id := strings.Repeat("a", 128)
	save(t, records, sample(id))
	if rec, err := records.Load(id); err != nil || rec.ID != id {
		t.Errorf("%q, %v", rec.ID, err)
	}
}

// A namespace is what its cookie says, wherever it is found.
func TestRecordsAreFoundByTheirNamespace(t *testing.T) {
	ns := nstest.New(t)
	_, records := opened(t)
	here, other, gone := sample("here"), sample("other"), sample("gone")
	here.NetNS = NetNS{Path: ns.Mount(), Cookie: ns.Cookie()}
	other.NetNS = NetNS{Path: here.NetNS.Path, Cookie: ns.Cookie() + 1}
	gone.NetNS = NetNS{Path: filepath.Join(t.TempDir(), "gone"), Cookie: 4711}
	for _, rec := range []*Record{&here, &other, &gone} {
		rec.Addresses = []neighbor.Address{{Dev: rec.ID}}
	}
	save(t, records, here, other, gone)
	if list, err := records.ByCookie(ns.Cookie()); err != nil || len(list) != 1 || list[0].ID != "here" {
		t.Errorf("of the namespace: %+v, %v", list, err)
	}
	if list, err := records.Addresses(); err != nil || len(list) != 1 || list[0].Dev != "here" {
		t.Errorf("of namespaces that are there: %+v, %v", list, err)
	}
}
