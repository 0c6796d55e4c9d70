// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unpack reads a bundle: the files by their names without the folder.
func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, found := strings.Cut(header.Name, "/")
		if !found || header.Mode != 0o600 || !strings.HasPrefix(header.Name, "neighpin-") {
			t.Errorf("entry %+v", header)
		}
		files[name] = string(text)
	}
}

// No daemon answers, and one record is broken: the rest is there all the same, and
// what is missing is named.
func TestABundleHasWhatCouldBeCollectedAndNamesTheRest(t *testing.T) {
	state := saved(t, recorded("good", "shop", "web"), troubled("bad", "shop", hostile))
	if err := os.WriteFile(filepath.Join(state, "sandboxes", "half.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none.sock")
	got := neighpin(map[string]string{"SECRET_TOKEN": "hunter2"}, "support-bundle", "--state-dir", state, "--sandboxes", "1", "--containerd-socket", none, "--nri-socket", none)
	if got.code != exitOK {
		t.Fatalf("support-bundle: %d %s", got.code, got.stderr)
	}
	isCalm(t, "stderr", outcome{stderr: strings.ReplaceAll(got.stderr, "\t", " ")})
	files := unpack(t, []byte(got.stdout))
	for name, want := range map[string]string{
		"README.txt": "no annotation of a pod", "version.json": `"version"`, "kernel.txt": "Linux version", "config.yaml": "stateDir: " + state,
		"check.json": `"NRI"`, "list.txt": "02:00:00:00:00:01", "records/good.json": `"inTime"`, "records/bad.json": `"late"`,
		"sandboxes/bad.json": `"problems"`, "not-collected.txt": "half.json",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not have %q: %q", name, want, files[name])
		}
	}
	for _, missing := range []string{"status.json", "metrics.txt", "goroutines.txt"} {
		if !strings.Contains(files["not-collected.txt"], missing+": ask daemon at") || !strings.Contains(got.stderr, missing) {
			t.Errorf("%s is not said to be missing: %q, %q", missing, files["not-collected.txt"], got.stderr)
		}
	}
	if _, more := files["sandboxes/good.json"]; more || len(files) != 10 {
		t.Errorf("%d files", len(files))
	}
	for name, text := range files {
		if strings.Contains(text, "hunter2") || strings.ContainsAny(text, "\x1b\u009b\u202e") {
			t.Errorf("%s has what it should not: %q", name, text)
		}
	}
}

func TestABundleIsANewFile(t *testing.T) {
	state, dir := saved(t), t.TempDir()
	run := func(file string) outcome {
		return neighpin(nil, "support-bundle", "--state-dir", state, "--containerd-socket", "", "--file", file)
	}
	file := filepath.Join(dir, "b.tar.gz")
	if got := run(file); got.code != exitOK || got.stdout != "" {
		t.Fatalf("%+v", got)
	}
	data, err := os.ReadFile(file)
	if err != nil || len(unpack(t, data)) == 0 {
		t.Errorf("%v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{file, link} {
		if got := run(there); got.code != exitError || !strings.Contains(got.stderr, "file exists") {
			t.Errorf("%s: %+v", there, got)
		}
	}
	if got := neighpin(nil, "support-bundle", "--sandboxes", "-1"); got.code != exitUsage {
		t.Errorf("-1 sandboxes: %+v", got)
	}
}

func TestAnArchiveStaysSmall(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out, "neighpin-x", time.Now())
	a.add("large", make([]byte, maxArchive-1), nil)
	a.add("too-much", []byte("ab"), nil)
	a.add("half", []byte("a"), errors.New("the rest was lost"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, out.Bytes())
	if _, more := files["too-much"]; more || len(files) != 3 || files["half"] != "a" || len(files["large"]) != maxArchive-1 {
		t.Errorf("%d files", len(files))
	}
	if text := files["not-collected.txt"]; !strings.Contains(text, "too-much: left out") || !strings.Contains(text, "half: the rest was lost") {
		t.Errorf("%q", text)
	}
}
