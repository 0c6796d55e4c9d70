// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

func TestOneAnnotationChangesAndNothingElse(t *testing.T) {
	for name, tc := range map[string]struct{ config, want string }{
		"no annotations": {`{ "ociVersion": "1.0.2",  "z": 1.50, "a": [ ] }` + "\n", `{"annotations":{"k":"v\"w"}, "ociVersion": "1.0.2",  "z": 1.50, "a": [ ] }` + "\n"},
		"null":           {`{"annotations": null}`, `{"annotations": {"k":"v\"w"}}`},
		"empty":          {`{"a":1,"annotations": { } }`, `{"a":1,"annotations": {"k":"v\"w" } }`},
		"others":         {`{"annotations":{"é":"\u00e9","x":"<&>"},"n":1e400}`, `{"annotations":{"k":"v\"w","é":"\u00e9","x":"<&>"},"n":1e400}`},
		"there before":   {`{"annotations":{"x":"1", "k" : "old" ,"y":"2"}}`, `{"annotations":{"x":"1", "k" : "v\"w" ,"y":"2"}}`},
		"escaped key":    {`{"annotations":{"\u006b":"old"}}`, `{"annotations":{"\u006b":"v\"w"}}`},
		"no member":      {`{}`, `{"annotations":{"k":"v\"w"}}`},
		"deeper":         {`{"process":{"annotations":{"k":"x"}}}`, `{"annotations":{"k":"v\"w"},"process":{"annotations":{"k":"x"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := withAnnotation([]byte(tc.config), "k", `v"w`)
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
			}
		})
	}
	for name, config := range map[string]string{
		"empty file": "", "no object": "[]", "a string": `"x"`, "torn": `{"annotations":{"a":`, "annotations are a list": `{"annotations":[]}`,
		"annotations twice": `{"annotations":{},"annotations":{}}`, "key twice": `{"annotations":{"k":"1","k":"2"}}`, "unclosed": `{"a":1`,
	} {
		if got, err := withAnnotation([]byte(config), "k", "v"); err == nil {
			t.Errorf("%s: %s, want an error", name, got)
		}
	}
}

func TestTheFileIsReplacedAtOnceAndStaysAsItWas(t *testing.T) {
	dir := writeBundle(t, []byte(`{"annotations":{}}`))
	path := filepath.Join(dir, "config.json")
	if err := os.Chown(path, 12, 34); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	link := t.TempDir()
	if err := os.Symlink(path, filepath.Join(link, "config.json")); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	b, err := readBundle(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.annotate("value"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || info.Mode().Perm() != 0o640 || stat.Uid != 12 || stat.Gid != 34 {
		t.Errorf("the file is %v of %d:%d", info.Mode(), stat.Uid, stat.Gid)
	}
	before, err := old.Stat()
	if err != nil || os.SameFile(before, info) {
		t.Errorf("written in place (%v): a reader could see half of it", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// Whatever is taken for a configuration reads the same afterwards, but for the
// one annotation.
func FuzzAnnotation(f *testing.F) {
	f.Add(`{"annotations":{"a":"b"},"linux":{"namespaces":[{"type":"network"}]}}`, "v")
	f.Add(` { "a" : 1 , "annotations" : null } `, `"`)
	f.Fuzz(func(t *testing.T, config, value string) {
		var before map[string]any
		if json.Unmarshal([]byte(config), &before) != nil || before == nil {
			return
		}
		got, err := withAnnotation([]byte(config), "k", value)
		if err != nil {
			return
		}
		var after map[string]any
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q became %q: %v", config, got, err)
		}
		annotations, _ := after["annotations"].(map[string]any)
		quoted, err := json.Marshal(value) // what is no UTF-8 is replaced
		if err != nil {
			t.Fatal(err)
		}
		var want any
		if err := json.Unmarshal(quoted, &want); err != nil || annotations["k"] != want {
			t.Fatalf("%q lacks the annotation %q, %v", got, value, err)
		}
		delete(annotations, "k")
		old, _ := before["annotations"].(map[string]any)
		delete(old, "k")
		if len(old)+len(annotations) > 0 && !reflect.DeepEqual(old, annotations) {
			t.Fatalf("annotations %v became %v", old, annotations)
		}
		delete(before, "annotations")
		delete(after, "annotations")
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q", config, got)
		}
	})
}
