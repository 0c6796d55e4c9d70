// SPDX-License-Identifier: Apache-2.0

package release_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neighpin/neighpin/e2e/internal/product"
	"github.com/neighpin/neighpin/e2e/internal/release"
)

func TestTheListOfModulesIsThatOfGoVersion(t *testing.T) {
	t.Parallel()
	for _, arch := range product.Architectures() {
		t.Run(arch, func(t *testing.T) {
			content, path := program(t, arch)
			out, err := exec.CommandContext(t.Context(), "go", "version", "-m", path).CombinedOutput()
			if err != nil {
				t.Fatalf("go version -m: %v\n%s", err, out)
			}
			first, rest, _ := strings.Cut(string(out), "\n")
			fields := strings.Fields(first)
			want := []string{"stdlib " + fields[len(fields)-1]}
			for line := range strings.Lines(rest) {
				if f := strings.Fields(line); f[0] == "dep" {
					want = append(want, f[1]+" "+f[2])
				} else if f[0] == "=>" {
					t.Fatalf("a module is replaced: %s", line)
				}
			}
			if len(want) < 20 {
				t.Fatalf("go version -m names only %q: the test is blind", want)
			}
			bom := bill(t, arch)
			var got []string
			for _, c := range *bom.Components {
				got = append(got, c.Name+" "+c.Version)
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("modules (- go version -m, + list):\n%s", diff)
			}
			sum := sha256.Sum256(content)
			if hash := (*bom.Metadata.Component.Hashes)[0]; hash.Value != hex.EncodeToString(sum[:]) {
				t.Errorf("the list is of a program with the sum %s, want %x", hash.Value, sum)
			}
		})
	}
}

// The schema is CycloneDX's own, which its library brings along.
func TestTheListFollowsItsSchema(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").CombinedOutput()
	if err != nil {
		t.Fatalf("go list -m: %v\n%s", err, dir)
	}
	folder := filepath.Join(strings.TrimSpace(string(dir)), "schema")
	compiler := jsonschema.NewCompiler()
	for file, id := range map[string]string{
		"bom-1.6.schema.json":   "http://cyclonedx.org/schema/bom-1.6.schema.json",
		"spdx.schema.json":      "http://cyclonedx.org/schema/spdx.schema.json",
		"jsf-0.82.schemax.json": "http://cyclonedx.org/schema/jsf-0.82.schema.json",
	} {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, filepath.Join(folder, file))))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(id, document); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range product.Architectures() {
		var document map[string]any
		if err := json.Unmarshal(read(t, billPath(arch)), &document); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
		document["bomFormat"] = "another"
		if err := schema.Validate(document); err == nil {
			t.Error("the schema takes what is no CycloneDX")
		}
	}
}

func billPath(arch string) string {
	return filepath.Join(made("first"), "neighpin-"+version("first")+"-linux-"+arch+".cdx.json")
}

func bill(t *testing.T, arch string) *cdx.BOM {
	t.Helper()
	bom := new(cdx.BOM)
	if err := cdx.NewBOMDecoder(bytes.NewReader(read(t, billPath(arch))), cdx.BOMFileFormatJSON).Decode(bom); err != nil {
		t.Fatal(err)
	}
	return bom
}

func TestChecksumsAreOfEveryFile(t *testing.T) {
	t.Parallel()
	sha256sum := func(dir string) error {
		cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet", release.SumsFile)
		cmd.Dir = dir
		return cmd.Run()
	}
	if err := release.Verify(made("first")); err != nil {
		t.Error(err)
	}
	if err := sha256sum(made("first")); err != nil {
		t.Error("sha256sum:", err)
	}
	changed := copied(t)
	if err := os.WriteFile(filepath.Join(changed, "install.yaml"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := release.Verify(changed); err == nil || !strings.Contains(err.Error(), "verify install.yaml") {
		t.Errorf("a changed file: error %v", err)
	}
	if sha256sum(changed) == nil {
		t.Error("sha256sum does not see a changed file")
	}
	added := copied(t)
	if err := os.WriteFile(filepath.Join(added, "one-more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := release.Verify(added); err == nil || !strings.Contains(err.Error(), "one-more") {
		t.Errorf("a file without a checksum: error %v", err)
	}
}

// copied is a copy of the release that a test may change.
func copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(made("first"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheRegistryGetsTheImageOfTheChecksums(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	defer server.Close()
	o := release.Options{Options: product.Options{Version: version("first")}, Repository: strings.TrimPrefix(server.URL, "http://") + "/neighpin"}
	o.Checkout = t.TempDir()
	released := func(version string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(o.Checkout, "VERSION"), []byte(version+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The image says in its archive where it belongs.
	o.Out = filepath.Join(t.TempDir(), "out")
	err := runMaker(t.Context(), checkout("first"), nil, "make", "-version", o.Version, "-image", o.Repository, "-out", o.Out)
	if err != nil {
		t.Fatal(err)
	}
	push := func() error { return release.Push(t.Context(), t.Output(), o, authn.DefaultKeychain) }

	released(strings.TrimSuffix(o.Version, "-e2e"))
	if err := push(); err == nil || !strings.Contains(err.Error(), "it is no release") {
		t.Errorf("what comes before a release: error %v, want a refusal", err)
	}
	released(o.Version)
	if err := push(); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(o.Repository + ":" + o.Version)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Get(tag)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(string(read(t, filepath.Join(o.Out, "image.sha256"))), " ")
	if pulled.Digest.Hex != want {
		t.Errorf("the registry has %s, the release says %s", pulled.Digest, want)
	}
	o.Repository += "/elsewhere"
	if err := push(); err == nil {
		t.Error("an image was pushed to where it does not belong")
	}
}

func TestChangesAreTakenFromTheirSection(t *testing.T) {
	const text = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- a\n\n## [0.1.0] - 2026-11-01\n\n- b\n"
	for title, want := range map[string]string{"Unreleased": "\n", "0.2.0": "### Added\n\n- a\n", "0.1.0": "- b\n"} {
		if got, err := release.Changes(text, title); err != nil || got != want {
			t.Errorf("section %s is %q, %v; want %q", title, got, err, want)
		}
	}
	if _, err := release.Changes(text, "0.3.0"); err == nil || !strings.Contains(err.Error(), "no section [0.3.0]") {
		t.Errorf("error %v, want one that names the section", err)
	}
}
