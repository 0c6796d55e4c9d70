// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/spf13/pflag"

	"github.com/neighpin/neighpin/internal/nstest"
)

// configMap is a volume as the kubelet writes it: the key's name leads through
// ..data to a directory with a name of its own, and an update replaces ..data
// (kubernetes pkg/volume/util/atomic_writer.go).
type configMap struct {
	t     *testing.T
	dir   string
	count int
}

func (m *configMap) file() string { return filepath.Join(m.dir, "neighpin.yaml") }

func (m *configMap) update(text string) {
	m.t.Helper()
	m.count++
	old, _ := os.Readlink(filepath.Join(m.dir, "..data"))
	name := fmt.Sprintf("..2026_11_22_00_00_%02d", m.count)
	must(m.t, os.Mkdir(filepath.Join(m.dir, name), 0o700))
	must(m.t, os.WriteFile(filepath.Join(m.dir, name, "neighpin.yaml"), []byte(text), 0o600))
	must(m.t, os.Symlink(name, filepath.Join(m.dir, "..data_tmp")))
	must(m.t, os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	if old == "" {
		must(m.t, os.Symlink("..data/neighpin.yaml", m.file()))
	} else {
		must(m.t, os.RemoveAll(filepath.Join(m.dir, old)))
	}
}

// replace puts a file with another text in a file's place, at one stroke.
func replace(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.WriteFile(file+".new", []byte(text), 0o600))
	must(t, os.Rename(file+".new", file))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// following is a daemon's configuration that follows its file.
type following struct {
	*Follower
	t       *testing.T
	said    *logtest.Hook
	signals chan os.Signal

	mu      sync.Mutex // guards the following
	applied []Config
	fault   error
}

// follow starts with what the file says now, and given flags and environment.
func follow(t *testing.T, path string, environ map[string]string, set func(*Follower), args ...string) *following {
	t.Helper()
	given := pflag.NewFlagSet("given", pflag.ContinueOnError)
	defaults := Default()
	given.AddFlagSet(defaults.Flags())
	must(t, given.Parse(args))
	source := Loader{Path: path, Given: given, LookupEnv: func(name string) (string, bool) { v, ok := environ[name]; return v, ok }}
	config, err := source.Load("")
	must(t, err)
	log, said := logtest.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	f := &following{t: t, said: said, signals: make(chan os.Signal)}
	f.Follower = NewFollower(source, config, f.take, log)
	set(f.Follower)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { f.Follow(ctx, f.signals) })
	t.Cleanup(func() { cancel(); watching.Wait() })
	return f
}

func (f *following) take(config Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		f.applied = append(f.applied, config)
	}
	return f.fault
}

func (f *following) last() (config Config, count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.applied) > 0 {
		config = f.applied[len(f.applied)-1]
	}
	return config, len(f.applied)
}

func (f *following) until(what string, ok func(Config, Status) bool) {
	f.t.Helper()
	nstest.Eventually(f.t, what, func() bool { config, _ := f.last(); return ok(config, f.Status()) })
}

// says waits until one line of the log has a text, and only one.
func (f *following) says(containing string) {
	f.t.Helper()
	n := 0
	nstest.Eventually(f.t, "the log to say "+containing, func() bool {
		n = 0
		for _, entry := range f.said.AllEntries() {
			if line, _ := entry.String(); strings.Contains(line, containing) {
				n++
			}
		}
		return n > 0
	})
	if n != 1 {
		f.t.Errorf("the log says %q %d times", containing, n)
	}
}

func asItIs(*Follower) {}

func TestAConfigMapThatIsEditedCountsAtOnce(t *testing.T) {
	m := &configMap{t: t, dir: t.TempDir()}
	m.update("handlers: [runsc]\n")
	f := follow(t, m.file(), nil, asItIs)
	start := f.Status()
	m.update("handlers: [runsc, dev]\nannotate: [dev]\npodAnnotations: ignore\nexcludeNamespaces: [kube-*]\nlogLevel: debug\nlogFormat: json\n")
	f.until("the new configuration", func(c Config, s Status) bool { return len(c.Handlers) == 2 && s.LoadedAt.After(start.LoadedAt) })
	c, _ := f.last()
	if got := c.Selection(); got.PodAnnotations != "ignore" || !slices.Equal(got.Annotate, []string{"dev"}) || !slices.Equal(got.ExcludeNamespaces, []string{"kube-*"}) {
		t.Errorf("selection %+v", got)
	}
	if c.LogLevel != "debug" || c.LogFormat != "json" {
		t.Errorf("log %s, %s", c.LogLevel, c.LogFormat)
	}
	if s := f.Status(); !s.OK || s.Error != "" || s.File != m.file() || len(s.NeedsRestart) != 0 {
		t.Errorf("status %+v", s)
	}
	f.says("excludeNamespaces handlers logFormat")
}

func TestNonsenseLeavesTheOldConfigurationInForce(t *testing.T) {
	for name, text := range map[string]string{
		"no YAML":             "handlers: [",
		"unknown key":         "handler: [dev]\n",
		"a value of nowhere":  "handlers: [dev]\npodAnnotations: perhaps\n",
		"a broken glob":       "excludeNamespaces: ['[']\n",
		"a key twice":         "logLevel: debug\nlogLevel: info\n",
		"a fault in dead key": "handlers: [dev]\nmaxNeighbors: 0\n",
		"binary":              "\x00\xff\x1b[31m",
	} {
		t.Run(name, func(t *testing.T) {
			m := &configMap{t: t, dir: t.TempDir()}
			m.update("handlers: [runsc]\n")
			f := follow(t, m.file(), nil, asItIs)
			m.update(text)
			f.until("the nonsense to be told", func(_ Config, s Status) bool { return !s.OK && s.Error != "" })
			if _, n := f.last(); n != 0 {
				t.Errorf("%d configurations were put in force", n)
			}
			f.says("stays in force")
			m.update("handlers: [runsc]\n")
			f.until("the old text to be good again", func(_ Config, s Status) bool { return s.OK && s.Error == "" })
		})
	}
}

func TestAFileThatGoesLeavesTheConfigurationInForce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.WriteFile(file, []byte("handlers: [runsc]\n"), 0o600))
	f := follow(t, file, nil, asItIs)
	must(t, os.Remove(file))
	f.until("the loss to be told", func(_ Config, s Status) bool { return strings.Contains(s.Error, "no such file") })
	must(t, os.Mkdir(file, 0o700))
	f.until("the directory to be told", func(_ Config, s Status) bool { return strings.Contains(s.Error, "not a regular file") })
	must(t, os.Remove(file))
	replace(t, file, "handlers: [dev]\n")
	f.until("the new file", func(c Config, s Status) bool { return s.OK && slices.Equal(c.Handlers, []string{"dev"}) })
}

func TestWhatStandsAboveTheFileStaysAbove(t *testing.T) {
	file := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.WriteFile(file, nil, 0o600))
	f := follow(t, file, map[string]string{"NEIGHPIN_ANNOTATE": "env"}, asItIs, "--handlers", "flag")
	replace(t, file, "handlers: [file]\nannotate: [file]\nexcludeNamespaces: [file]\n")
	f.until("the file's own key", func(c Config, _ Status) bool { return slices.Equal(c.ExcludeNamespaces, []string{"file"}) })
	if c, _ := f.last(); !slices.Equal(c.Handlers, []string{"flag"}) || !slices.Equal(c.Annotate, []string{"env"}) {
		t.Errorf("handlers %v, annotate %v", c.Handlers, c.Annotate)
	}
}

func TestKeysThatNeedARestartAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.WriteFile(file, []byte("enforce: true\n"), 0o600))
	f := follow(t, file, nil, asItIs)
	replace(t, file, "handlers: [dev]\nmaxNeighbors: 7\nstateDir: /run/elsewhere\n")
	f.until("the new configuration", func(_ Config, s Status) bool { return len(s.NeedsRestart) > 0 })
	c, _ := f.last()
	if !slices.Equal(c.Handlers, []string{"dev"}) || !c.Enforce || c.MaxNeighbors != 64 || c.StateDir != DefaultStateDir {
		t.Errorf("in force: %+v", c)
	}
	// As long as pods are refused, no tenant may opt out.
	if c.PodAnnotations != "optIn" {
		t.Errorf("podAnnotations is %s while enforce is in force", c.PodAnnotations)
	}
	if want := []string{"enforce", "maxNeighbors", "podAnnotations", "stateDir"}; !slices.Equal(f.Status().NeedsRestart, want) {
		t.Errorf("needs a restart: %q, want %q", f.Status().NeedsRestart, want)
	}
	f.says("next start")
}

// An empty file is a configuration, too, and who writes in place begins with one.
func TestAFileThatIsBeingWrittenIsNotRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.WriteFile(file, []byte("handlers: [runsc]\n"), 0o600))
	// The writer may have to wait for its turn for as long as a busy machine likes.
	f := follow(t, file, nil, func(r *Follower) { r.empty = time.Hour })
	for i := range 200 {
		must(t, os.WriteFile(file, nil, 0o600))
		must(t, os.WriteFile(file, fmt.Appendf(nil, "handlers: [dev%d]\n", i), 0o600))
	}
	f.until("the last text", func(c Config, _ Status) bool { return slices.Equal(c.Handlers, []string{"dev199"}) })
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.applied {
		if len(c.Handlers) != 1 {
			t.Errorf("half a file was in force: %v", c.Handlers)
		}
	}
}

func TestAFileThatStaysEmptyCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.WriteFile(file, []byte("handlers: [dev]\n"), 0o600))
	f := follow(t, file, nil, func(r *Follower) { r.empty = 2 * r.settle })
	must(t, os.WriteFile(file, nil, 0o600))
	f.until("the defaults", func(c Config, _ Status) bool { return slices.Equal(c.Handlers, Default().Handlers) })
}

// Others may write beside the file without end, by names that could concern it.
func TestEventsWithoutEndDoNotKeepTheFileFromBeingRead(t *testing.T) {
	m := &configMap{t: t, dir: t.TempDir()}
	m.update("handlers: [runsc]\n")
	f := follow(t, m.file(), nil, func(r *Follower) { r.settle = time.Second }) // in which the events do not pause
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for name := filepath.Join(m.dir, "..other"); ctx.Err() == nil; {
			_ = os.WriteFile(name, nil, 0o600)
			_ = os.Remove(name)
		}
	})
	defer writing.Wait()
	defer stop()
	m.update("handlers: [dev]\n")
	f.until("the change", func(c Config, _ Status) bool { return slices.Equal(c.Handlers, []string{"dev"}) })
}

func TestWhatIsNotAboutTheFileIsNotRead(t *testing.T) {
	m := &configMap{t: t, dir: t.TempDir()}
	m.update("handlers: [runsc]\n")
	f := follow(t, m.file(), nil, asItIs)
	m.update("# nothing else\nhandlers: [runsc]\n")
	m.update("handlers: [dev]\n")
	f.until("the change", func(c Config, _ Status) bool { return slices.Equal(c.Handlers, []string{"dev"}) })
	if _, n := f.last(); n != 1 {
		t.Errorf("put in force %d times", n)
	}
}

func TestTheFileIsReadAtASignalAndNowAndThen(t *testing.T) {
	// Out of the kernel's sight: the link's target is in another directory.
	target := filepath.Join(t.TempDir(), "real.yaml")
	must(t, os.WriteFile(target, []byte("handlers: [runsc]\n"), 0o600))
	link := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.Symlink(target, link))
	t.Run("signal", func(t *testing.T) {
		f := follow(t, link, nil, asItIs)
		f.signals <- os.Interrupt // whichever: it is the channel that counts
		f.says("in force")        // though nothing changed
		must(t, os.WriteFile(target, []byte("handlers: [dev]\n"), 0o600))
		f.signals <- os.Interrupt
		f.until("the change", func(c Config, _ Status) bool { return slices.Equal(c.Handlers, []string{"dev"}) })
	})
	t.Run("by itself", func(t *testing.T) {
		f := follow(t, link, nil, func(r *Follower) { r.interval = 10 * time.Millisecond })
		replace(t, target, "handlers: [other]\n")
		f.until("the change", func(c Config, _ Status) bool { return slices.Equal(c.Handlers, []string{"other"}) })
	})
	t.Run("no file", func(t *testing.T) {
		f := follow(t, "", nil, asItIs)
		f.signals <- os.Interrupt
		f.says("no configuration file")
	})
}

func TestAConfigurationThatCannotBeAppliedIsNotInForce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "neighpin.yaml")
	must(t, os.WriteFile(file, nil, 0o600))
	f := follow(t, file, nil, asItIs)
	f.mu.Lock()
	f.fault = errors.New("the engine is closed")
	f.mu.Unlock()
	replace(t, file, "handlers: [dev]\n")
	f.until("the failure to be told", func(_ Config, s Status) bool { return strings.Contains(s.Error, "the engine is closed") })
}
