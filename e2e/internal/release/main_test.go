// SPDX-License-Identifier: Apache-2.0

package release_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/e2e/internal/tarball"
	"github.com/neighpin/neighpin/internal/cmd/command"
)

const (
	// folderEnv names the folder with the two releases that are compared, first and second, and the checkouts that they are
	// built in.
	folderEnv = "NEIGHPIN_E2E_RELEASE"

	revision = "0123456789abcdef0123456789abcdef01234567"
	epoch    = "1700000000"
)

func TestMain(m *testing.M) {
	var code int
	failed := command.Run("release", func(ctx context.Context) error {
		folder, err := os.MkdirTemp("", "neighpin-release-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		if err := prepare(ctx, folder); err != nil {
			return err
		}
		code = m.Run()
		return nil
	})
	os.Exit(max(failed, code))
}

// prepare makes the release twice: the second time in another folder, by somebody with other habits, and with an empty build
// cache. The maker is a program of its own: with the race detector, which tests have, it would compress for minutes.
func prepare(ctx context.Context, folder string) error {
	if err := setup.Emulators(ctx, os.Stderr); err != nil {
		return err
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	if err := builder.Program(ctx, root, "./cmd/release", filepath.Join(folder, "release")); err != nil {
		return err
	}
	if err := os.Setenv(folderEnv, folder); err != nil {
		return err
	}
	habits := []string{
		"GOCACHE=" + filepath.Join(folder, "cache"), "GOFLAGS=-ldflags=-s -buildvcs=true", "GOAMD64=v3", "GOARM64=v9.0",
		"TZ=Asia/Kolkata", "LC_ALL=C", "USER=somebody",
	}
	for _, name := range []string{"first", "second"} {
		if err := copySources(ctx, filepath.Dir(root), checkout(name)); err != nil {
			return err
		}
	}
	// Both at once: the first compiles little, and uses one processor at a time.
	errs := make(chan error, 2)
	for name, env := range map[string][]string{"first": nil, "second": habits} {
		go func() {
			errs <- runMaker(ctx, checkout(name), env, "make", "-version", version(name), "-revision", revision, "-out", made(name))
		}()
	}
	return errors.Join(<-errs, <-errs)
}

// checkout is where the release of that name is built: the folders differ in length, which paths in a program would show.
func checkout(name string) string {
	return filepath.Join(os.Getenv(folderEnv), "checkout-"+name, name)
}

// made is the folder of the release of that name.
func made(name string) string { return filepath.Join(os.Getenv(folderEnv), name) }

// version is what comes before the release that the checkout becomes.
func version(name string) string {
	text, err := os.ReadFile(filepath.Join(checkout(name), "VERSION"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text)) + "-e2e"
}

// copySources copies what a clone would hold, with the changes that are not committed yet.
func copySources(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = from
	list, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the sources: %w", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, content, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// runMaker runs cmd/release in a checkout, with further variables in its environment.
func runMaker(ctx context.Context, checkout string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv(folderEnv), "release"), args...)
	cmd.Dir = checkout
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("release %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// archives are what unpacked has read, each once: with the race detector that takes seconds.
var archives = struct {
	sync.Mutex
	files map[string]map[string][]byte
}{files: map[string]map[string][]byte{}}

// unpacked are the files of the program's archive for an architecture, by their path in it.
func unpacked(t *testing.T, arch string) map[string][]byte {
	t.Helper()
	archives.Lock()
	defer archives.Unlock()
	if files, ok := archives.files[arch]; ok {
		return files
	}
	file, err := os.Open(filepath.Join(made("first"), "neighpin-"+version("first")+"-linux-"+arch+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := tarball.Read(plain)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		files[entry.Header.Name] = entry.Data
	}
	archives.files[arch] = files
	return files
}

// program is the path of the program in the archive for an architecture, and of a copy of it.
func program(t *testing.T, arch string) (content []byte, path string) {
	t.Helper()
	content = unpacked(t, arch)["neighpin-"+version("first")+"-linux-"+arch+"/neighpin"]
	if len(content) == 0 {
		t.Fatalf("the archive for %s holds no neighpin", arch)
	}
	path = filepath.Join(t.TempDir(), "neighpin")
	// The tests run in parallel, and a child that another of them forks meanwhile would have the file open for writing until it executes its
	// program: until then nobody could execute this one (ETXTBSY).
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, content, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return content, path
}
