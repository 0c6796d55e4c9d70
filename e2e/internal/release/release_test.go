// SPDX-License-Identifier: Apache-2.0

package release_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/tarball"
)

func TestTwoBuildsInDifferentPlacesAreTheSame(t *testing.T) {
	t.Parallel()
	v := version("first")
	want := []string{
		"NOTES.md", "PROVENANCE.md", "SHA256SUMS", "image.sha256", "install.yaml", "neighpin-" + strings.TrimPrefix(v, "v") + ".tgz",
		"neighpin-" + v + "-image.tar", "neighpin-" + v + "-linux-amd64.cdx.json", "neighpin-" + v + "-linux-amd64.tar.gz",
		"neighpin-" + v + "-linux-arm64.cdx.json", "neighpin-" + v + "-linux-arm64.tar.gz",
	}
	for _, name := range []string{"first", "second"} {
		if diff := cmp.Diff(want, names(t, made(name))); diff != "" {
			t.Errorf("files of the %s build (-want +got):\n%s", name, diff)
		}
	}
	for _, name := range want {
		if !bytes.Equal(read(t, filepath.Join(made("first"), name)), read(t, filepath.Join(made("second"), name))) {
			t.Errorf("%s differs between the two builds", name)
		}
	}
	if entries := names(t, filepath.Join(os.Getenv(folderEnv), "cache")); len(entries) < 100 {
		t.Errorf("the second build's own cache has %d entries: it compiled nothing", len(entries))
	}
}

// The program for the other architecture runs under qemu's user mode.
func TestEachArchitectureHasAStaticProgramThatRuns(t *testing.T) {
	t.Parallel()
	for arch, c := range map[string]struct {
		machine  elf.Machine
		emulator string
	}{
		"amd64": {elf.EM_X86_64, "qemu-x86_64"},
		"arm64": {elf.EM_AARCH64, "qemu-aarch64"},
	} {
		t.Run(arch, func(t *testing.T) {
			content, path := program(t, arch)
			header, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if header.Machine != c.machine {
				t.Errorf("the program is for %s, want %s", header.Machine, c.machine)
			}
			if slices.ContainsFunc(header.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
				t.Error("the program is not static")
			}
			command := []string{c.emulator, path, "version"}
			if arch == runtime.GOARCH {
				command = command[1:]
			}
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), version("first")) {
				t.Errorf("%q says %q, %v; want %s in it", command, out, err, version("first"))
			}
			for _, secret := range []string{os.Getenv(folderEnv), "vcs.revision", "vcs.modified"} {
				if bytes.Contains(content, []byte(secret)) {
					t.Errorf("the program holds %q: it tells where or of what state it was built", secret)
				}
			}
		})
	}
}

func TestArchiveImageAndMakeBuildHoldOneProgram(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join(made("first"), "neighpin-"+version("first")+"-image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	index, called, err := product.Unpack(file, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if want := "ghcr.io/neighpin/neighpin:" + version("first"); called != want {
		t.Errorf("the image is called %s, want %s", called, want)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var arches []string
	for _, one := range manifest.Manifests {
		arches = append(arches, one.Platform.Architecture)
		image, err := index.Image(one.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if content, _ := program(t, one.Platform.Architecture); !bytes.Equal(content, inImage(t, image)) {
			t.Errorf("%s: the image's program is not the archive's", one.Platform)
		}
	}
	if !slices.Equal(arches, product.Architectures()) {
		t.Errorf("the image is for %q", arches)
	}

	cmd := exec.CommandContext(t.Context(), "make", "build", "VERSION="+version("first"))
	cmd.Dir = checkout("first")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	if content, _ := program(t, runtime.GOARCH); !bytes.Equal(content, read(t, filepath.Join(checkout("first"), "bin", "neighpin"))) {
		t.Error("make build makes another program")
	}
}

// One version is in the program, the image, the chart and install.yaml; the file VERSION gives it.
func TestChartAndManifestNameTheImageOfTheRelease(t *testing.T) {
	v := version("first")
	install := string(read(t, filepath.Join(made("first"), "install.yaml")))
	if !strings.Contains(install, "image: ghcr.io/neighpin/neighpin:"+v+"\n") || strings.Count(install, "image: ") != 1 {
		t.Errorf("install.yaml does not name the image of %s:\n%s", v, install)
	}
	out, err := exec.CommandContext(t.Context(), "tar", "--extract", "--to-stdout", "--file",
		filepath.Join(made("first"), "neighpin-"+strings.TrimPrefix(v, "v")+".tgz"), "neighpin/Chart.yaml").CombinedOutput()
	if err != nil {
		t.Fatalf("unpack the chart: %v\n%s", err, out)
	}
	for _, want := range []string{"\nappVersion: " + v + "\n", "\nversion: " + strings.TrimPrefix(v, "v") + "\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the chart has no %q:\n%s", want, out)
		}
	}
}

func TestProvenanceSaysHowToBuildTheSame(t *testing.T) {
	text := string(read(t, filepath.Join(made("first"), "PROVENANCE.md")))
	digest, _, _ := strings.Cut(string(read(t, filepath.Join(made("first"), "image.sha256"))), " ")
	for _, want := range []string{
		"| commit | " + revision + " |", "| compiler | " + runtime.Version() + " |", "@sha256:" + digest + " |",
		"GOTOOLCHAIN=" + runtime.Version() + " make release VERSION=" + version("first") + " SOURCE_DATE_EPOCH=" + epoch + "\n", "`CGO_ENABLED=0`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func TestAVersionOfAnotherReleaseIsRefused(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	err := runMaker(t.Context(), checkout("first"), nil, "make", "-version", "v0.99.0", "-out", out)
	if err == nil || !strings.Contains(err.Error(), "the file VERSION says") {
		t.Errorf("error %v, want one about the file VERSION", err)
	}
	err = runMaker(t.Context(), checkout("first"), nil, "make", "-version", version("first"), "-out", made("second"))
	if err == nil || !strings.Contains(err.Error(), "remove it first") {
		t.Errorf("a folder in use: error %v, want one that says what to do", err)
	}
}

// inImage is the program in an image.
func inImage(t *testing.T, image v1.Image) []byte {
	t.Helper()
	flat := mutate.Extract(image)
	defer flat.Close()
	entries, err := tarball.Read(flat)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.Trim(entry.Header.Name, "/") == "neighpin" {
			return entry.Data
		}
	}
	t.Fatal("the image holds no program")
	return nil
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return found
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
