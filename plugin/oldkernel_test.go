// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/nstest"
)

// On a kernel before 5.14 nothing is pinned and everything says why; what was
// there before neighpin goes on working.
func TestKernelBefore514(t *testing.T) {
	const sentence = "Linux 5.14 or newer is needed, this is "
	ns, _ := newPod(t)
	w := install(t, "#!/bin/sh\necho the real runtime, \"$@\"\n")
	dir := bundle(t, ns)
	program, state := filepath.Join(filepath.Dir(w.wrapper), "neighpin"), t.TempDir()
	enforced := filepath.Join(t.TempDir(), "runtime.yaml")
	text := "enforce: true\nstateDir: " + state + "\nruntimes: {neighpin-runx: " + w.real + "}\n"
	if err := os.WriteFile(enforced, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		env  string
		code int
		says string
	}{
		"daemon": {[]string{program, "plugin", "--state-dir", state, "--nri-socket", filepath.Join(state, "nri.sock")}, "",
			exitError, "neighpin: "},
		"pin":               {[]string{program, "pin", "--netns", ns.Ref(), "--state-dir", state}, "", exitError, "neighpin: "},
		"verify":            {[]string{program, "verify", "--netns", ns.Ref(), "--state-dir", state}, "", exitError, "neighpin: "},
		"uninstall":         {[]string{program, "unpin", "--all", "--state-dir", state}, "", exitError, "unpin all"},
		"wrapper":           {[]string{w.wrapper, "create", "--bundle", dir, "abc"}, "", exitOK, "the real runtime, create"},
		"wrapper, enforced": {[]string{w.wrapper, "create", "--bundle", dir, "abc"}, config.RuntimeEnv + "=" + enforced, exitError, "neighpin"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(c.args[0], c.args[1:]...)
			cmd.Env = append(w.env, c.env)
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			err := nstest.RunWithoutCookies(t, cmd)
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(out.String(), sentence) || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, %v, want %d, %q and %q:\n%s", code, err, c.code, sentence, c.says, out.String())
			}
			if strings.Contains(out.String(), "the real runtime") != (c.code == exitOK) {
				t.Errorf("the container: %s", out.String())
			}
		})
	}
	if left := ns.Output("neigh", "show"); strings.Contains(left, "PERMANENT") {
		t.Errorf("pinned all the same: %s", left)
	}
}
