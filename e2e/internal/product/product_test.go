// SPDX-License-Identifier: Apache-2.0

package product_test

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/tarball"
)

// most is how large an image may be, unpacked.
const most = 25 << 20

// The second is built in another folder, by somebody with other habits.
func TestTwoBuildsGiveOneDigest(t *testing.T) {
	checkout, elsewhere := mustOptions(t).Checkout, t.TempDir()
	// What the build reads, and not the other gigabytes that a checkout may hold.
	for _, path := range []string{"hooks", "internal", "pkg", "plugin"} {
		if err := os.CopyFS(filepath.Join(elsewhere, path), os.DirFS(filepath.Join(checkout, path))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(elsewhere, "e2e"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"go.mod", "go.sum", "LICENSE", "e2e/go.mod"} {
		content, err := os.ReadFile(filepath.Join(checkout, path))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(elsewhere, path), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := filepath.Join(t.TempDir(), "second.tar")
	habits := []string{"TZ=Asia/Kolkata", "GOFLAGS=-ldflags=-s", "GOAMD64=v3", "GOARM64=v9.0", "USER=somebody"}
	if err := runBuilder(t.Context(), elsewhere, habits, "-archive", second); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(first())
	if err != nil {
		t.Fatal(err)
	}
	another, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, another) {
		t.Errorf("the archives differ; the images are\n%s and\n%s", digests(t, first()), digests(t, second))
	}
}

// digests are those of an archive's index and its images.
func digests(t *testing.T, path string) string {
	t.Helper()
	raw, err := layoutIn(t, path).RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestTheImageHoldsAStaticBinaryAndLicensesAndNothingElse(t *testing.T) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	place := regexp.MustCompile(`^licenses/.+/(?i:licen[cs]e|copying|copyright|notice|patents)[^/]*$`)
	for _, arch := range product.Architectures() {
		t.Run(arch, func(t *testing.T) {
			o := mustOptions(t)
			size := 0
			files := filesFor(t, arch)
			for path, f := range files {
				size += len(f.content)
				mode := int64(0o644)
				switch {
				case f.dir || path == "neighpin":
					mode = 0o755
				case path != "LICENSE" && !place.MatchString(path):
					t.Errorf("the image holds %s", path)
				}
				if f.mode != mode || f.owner != "0:0" || !f.modified.Equal(o.Date) {
					t.Errorf("%s: mode %o, owner %s, time %s", path, f.mode, f.owner, f.modified)
				}
			}
			fmt.Printf("figure: image for linux/%s: %.1f MiB unpacked\n", arch, float64(size)/(1<<20))
			if size > most {
				t.Errorf("the image has %d bytes, want at most %d", size, most)
			}
			license, err := os.ReadFile(filepath.Join(o.Checkout, "LICENSE"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(files["LICENSE"].content, license) {
				t.Error("/LICENSE is not the project's")
			}
			checkBinary(t, files["neighpin"].content, machines[arch], o.Version, o.Checkout)
		})
	}
}

// checkBinary checks that the program needs nothing but the kernel, and its version.
func checkBinary(t *testing.T, content []byte, machine elf.Machine, version, checkout string) {
	t.Helper()
	program, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != machine {
		t.Errorf("the program is for %s, want %s", program.Machine, machine)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %s: it is not static", segment.Type)
		}
	}
	if !bytes.Contains(content, []byte(version)) {
		t.Errorf("the program does not hold its version %s", version)
	}
	if bytes.Contains(content, []byte(checkout)) {
		t.Error("the program tells where it was built")
	}
	native := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	if machine != native {
		return
	}
	path := filepath.Join(t.TempDir(), "neighpin")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), version) {
		t.Errorf("neighpin version says %q, %v; want %s in it", out, err, version)
	}
}

func TestEveryLinkedModuleIsThereWithItsLicense(t *testing.T) {
	for _, arch := range product.Architectures() {
		t.Run(arch, func(t *testing.T) {
			files := filesFor(t, arch)
			info, err := buildinfo.Read(bytes.NewReader(files["neighpin"].content))
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"go"}
			for _, module := range info.Deps {
				want = append(want, module.Path)
			}
			if len(want) < 20 {
				t.Fatalf("the program names only the modules %q: the test is blind", want)
			}
			if err := covers(files, want); err != nil {
				t.Error(err)
			}
			// It must see a license that is missing, and one too many.
			if err := covers(files, append(want, "example.com/another")); err == nil {
				t.Error("a module without a license is not noticed")
			}
			if err := covers(files, want[:len(want)-1]); err == nil {
				t.Error("a license of what is not linked is not noticed")
			}
		})
	}
}

// covers compares the folders that have a license with what is linked. A license below a module is of code that it took over.
func covers(files map[string]file, modules []string) error {
	var errs []error
	for _, module := range modules {
		found := false
		for path := range files {
			folder, name := filepath.Split(path)
			found = found || folder == "licenses/"+module+"/" && regexp.MustCompile(`^(?i)(licen[cs]e|copying)`).MatchString(name)
		}
		if !found {
			errs = append(errs, fmt.Errorf("there is no license of %s", module))
		}
	}
	for path, f := range files {
		if f.dir || !strings.HasPrefix(path, "licenses/") {
			continue
		}
		if !slices.ContainsFunc(modules, func(module string) bool { return strings.HasPrefix(path, "licenses/"+module+"/") }) {
			errs = append(errs, fmt.Errorf("%s is of nothing that is linked", path))
		}
	}
	return errors.Join(errs...)
}

func TestLabelsAndCommandAreSet(t *testing.T) {
	o := mustOptions(t)
	for _, arch := range product.Architectures() {
		file, err := imageFor(t, layoutIn(t, first()), arch).ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if file.OS != "linux" || file.Architecture != arch || !file.Created.Equal(o.Date) {
			t.Errorf("the image is of %s/%s, %s", file.OS, file.Architecture, file.Created)
		}
		if c := file.Config; !slices.Equal(c.Entrypoint, []string{"/neighpin"}) || !slices.Equal(c.Cmd, []string{"plugin"}) {
			t.Errorf("the image runs %q %q", c.Entrypoint, c.Cmd)
		}
		labels := maps.Clone(file.Config.Labels)
		for label, value := range map[string]string{"version": o.Version, "revision": o.Revision, "licenses": "Apache-2.0", "title": "neighpin"} {
			if got := labels["org.opencontainers.image."+label]; got != value {
				t.Errorf("label %s is %q, want %q", label, got, value)
			}
		}
		for _, label := range []string{"description", "source", "documentation"} {
			if labels["org.opencontainers.image."+label] == "" {
				t.Errorf("there is no label %s", label)
			}
		}
	}
}

// file is one of an image.
type file struct {
	dir      bool
	mode     int64
	owner    string
	modified time.Time
	content  []byte
}

// contents are all files of an image by path, without a slash at either end.
func contents(t *testing.T, image v1.Image) map[string]file {
	t.Helper()
	flat := mutate.Extract(image)
	defer flat.Close()
	files := map[string]file{}
	entries, err := tarball.Read(flat)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		header := entry.Header
		files[strings.Trim(header.Name, "/")] = file{
			dir: header.Typeflag == tar.TypeDir, mode: header.Mode & 0o7777, owner: fmt.Sprintf("%d:%d", header.Uid, header.Gid),
			modified: header.ModTime, content: entry.Data,
		}
	}
	return files
}
