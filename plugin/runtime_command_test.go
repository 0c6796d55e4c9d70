// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/nstest"
)

// wrapped is the binary, installed under a runtime's name beside what stands for
// the real runtime.
type wrapped struct {
	wrapper, real string
	env           []string
}

// install builds the binary; script is the real runtime.
func install(tb testing.TB, script string) wrapped {
	tb.Helper()
	dir := tb.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "neighpin"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build: %v\n%s", err, out)
	}
	w := wrapped{wrapper: filepath.Join(dir, "neighpin-runx"), real: filepath.Join(dir, "runx")}
	if err := os.Symlink("neighpin", w.wrapper); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(w.real, []byte(script), 0o700); err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(dir, "runtime.yaml")
	text := fmt.Sprintf("stateDir: %s\nruntimes:\n  neighpin: %s\n", filepath.Join(dir, "state"), w.real)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	w.env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), config.RuntimeEnv+"="+file, "STRANGE=a b\nc=d")
	return w
}

// bundle has a namespace that can be pinned.
func bundle(tb testing.TB, ns *nstest.NS) string {
	tb.Helper()
	dir := tb.TempDir()
	config := fmt.Sprintf(`{"linux":{"namespaces":[{"type":"network","path":%q}]}}`, ns.Mount())
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// witness says all that a process inherits.
const witness = `#!/bin/sh
printf '[%s]' "$@"
echo
env -0 | tr '\0' '\n'
readlink /proc/$$/ns/net /proc/$$/cwd
for fd in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$fd || echo "no $fd"; done
ulimit -n
ulimit -c
umask
grep -E '^(Sig(Blk|Ign)|NoNewPrivs|Cap.*|Uid):' /proc/self/status
cat
exit 42
`

// The real runtime finds the world as its caller made it, also after the wrapper
// has worked in a pod's namespace.
func TestTheRealRuntimeInheritsEverything(t *testing.T) {
	ns, _ := newPod(t)
	w := install(t, witness)
	dir := bundle(t, ns)
	run := func(program string, first []string, args ...string) (string, int) {
		t.Helper()
		shell := `ulimit -S -n 77; umask 031; exec 5</dev/null 7>/dev/null; exec "$0" "$@"`
		cmd := exec.Command("/bin/sh", append(append([]string{"-c", shell, program}, first...), args...)...)
		cmd.Env, cmd.Dir = w.env, dir
		cmd.Stdin = strings.NewReader("what the caller says")
		out, err := cmd.CombinedOutput()
		if _, failed := err.(*exec.ExitError); err != nil && !failed { //nolint:errorlint // Run returns it as it is
			t.Fatal(err)
		}
		return pipes(string(out)), cmd.ProcessState.ExitCode()
	}
	for _, args := range [][]string{
		{"state", "abc"}, {}, {"--version"}, {"exec", "abc", "", "a b", "*", "--help"},
		{"--root=/r", "--log-format=json", "create", "--bundle", dir, "--pid-file", "/p", "abc"},
		{"run", "-b=" + dir, "abc"},
	} {
		want, wantCode := run(w.real, nil, args...)
		for name, first := range map[string][]string{w.wrapper: nil, filepath.Join(filepath.Dir(w.wrapper), "neighpin"): {"runtime"}} {
			if got, code := run(name, first, args...); got != want || code != wantCode || code != 42 {
				t.Errorf("%s %q: exit %d\n%s\nwithout the wrapper: exit %d\n%s", name, args, code, got, wantCode, want)
			}
		}
	}
	if got := strings.Count(ns.Output("neigh", "show"), "PERMANENT"); got != 2 {
		t.Errorf("%d permanent entries, want 2: the comparison shows nothing if nothing was pinned", got)
	}
}

// pipes takes the numbers of pipes away, which no two runs have in common.
func pipes(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "pipe:[") {
			line = "pipe\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

func TestARuntimeThatEndsByASignalDoesSoBehindTheWrapper(t *testing.T) {
	w := install(t, "#!/bin/sh\nkill -USR1 $$\n")
	cmd := exec.Command(w.wrapper, "state", "abc")
	cmd.Env = w.env
	if err := cmd.Run(); err == nil || err.Error() != "signal: user defined signal 1" {
		t.Errorf("ended with %v", err)
	}
}

// Two copies that stand for each other do not run for ever.
func TestAWrapperThatPointsAtItself(t *testing.T) {
	w := install(t, witness)
	copied := filepath.Join(t.TempDir(), "runx")
	program, err := os.ReadFile(w.wrapper)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, program, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log.json")
	cmd := exec.Command(w.wrapper, "--log", log, "--log-format", "json", "create", "abc")
	cmd.Env = append(w.env, "PATH="+filepath.Dir(copied))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	said, readErr := os.ReadFile(log)
	if cmd.ProcessState.ExitCode() != exitError || stdout.Len() != 0 || !strings.Contains(stderr.String(), "the wrapper itself") ||
		readErr != nil || !bytes.Contains(said, []byte(`"level":"error"`)) {
		t.Errorf("%v, %q, %q, log %q, %v", err, stdout.String(), stderr.String(), said, readErr)
	}
}

// Under a configuration that cannot be read, it is not known whether a pod may
// start unpinned; but it may end.
func TestWithoutAConfigurationNothingStarts(t *testing.T) {
	w := install(t, witness)
	run := func(command string) (string, int) {
		cmd := exec.Command(w.wrapper, command, "abc")
		cmd.Env = append(w.env, config.RuntimeEnv+"=/nonexistent/runtime.yaml")
		out, _ := cmd.CombinedOutput() // the code says it
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, command := range []string{"create", "run", "restore"} {
		if out, code := run(command); code != exitError || !strings.Contains(out, "/nonexistent/runtime.yaml") {
			t.Errorf("%s: exit %d, %s", command, code, out)
		}
	}
	for _, command := range []string{"delete", "kill", "state"} {
		if out, code := run(command); code != 42 || !strings.HasPrefix(out, "["+command+"]") {
			t.Errorf("%s: exit %d, %s", command, code, out)
		}
	}
}

// What the binary is by the name that it is called by.
func TestNames(t *testing.T) {
	for program, want := range map[string]string{
		"neighpin": "", "/usr/bin/neighpin": "", "./neighpin": "", "/opt/nri/plugins/10-neighpin": "", "10-other": "", "/root/go/bin/plugin": "",
		"/usr/local/bin/neighpin-runsc": "neighpin-runsc", "runc": "runc",
	} {
		if got := standsFor(program); got != want {
			t.Errorf("%s stands for %q, want %q", program, got, want)
		}
	}
}

// The cost of the wrapper, as a ratio: what a call takes with it to what the real
// runtime takes alone. The runtime is runc, asked for a container that it does
// not know, which is the least that a runtime does.
func BenchmarkWrapper(b *testing.B) {
	ns := nstest.New(b)
	outside := nstest.New(b)
	ns.Veth("eth0", outside, "veth0")
	ns.IP("address add 10.88.0.2/24 dev eth0", "route add default via 10.88.0.1")
	w := install(b, "#!/bin/sh\n")
	runc, err := exec.LookPath("runc")
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "runtime.yaml")
	text := fmt.Sprintf("stateDir: %s\nruntimes: {neighpin-runx: %s}\n", filepath.Join(b.TempDir(), "state"), runc)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	w.env = append(w.env, config.RuntimeEnv+"="+file)
	root := "--root=" + b.TempDir()
	for name, args := range map[string][]string{
		"pass": {root, "state", "abc"},
		// runc refuses the bundle, which lacks almost everything, once it has it.
		"create": {root, "create", "--bundle", bundle(b, ns), "abc"},
	} {
		b.Run(name, func(b *testing.B) {
			took := func(program string) time.Duration {
				begin := time.Now()
				cmd := exec.Command(program, args...)
				cmd.Env = w.env
				_ = cmd.Run() // it knows no such container
				return time.Since(begin)
			}
			var with, alone time.Duration
			for b.Loop() {
				with += took(w.wrapper)
				alone += took(runc)
			}
			b.ReportMetric(float64(with)/float64(alone), "x-runtime")
			b.ReportMetric(float64(with-alone)/float64(b.N)/1e6, "ms-more/op")
		})
	}
}
