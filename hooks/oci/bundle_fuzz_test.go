// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzBundle: whatever stands in a config.json is refused, or says one network
// namespace and one role; only what joins a sandbox names one.
func FuzzBundle(f *testing.F) {
	dir := f.TempDir()
	for _, text := range []string{
		`{"linux":{"namespaces":[{"type":"network","path":"/var/run/netns/x"},{"type":"pid"}]},"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}`,
		`{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"a"},"linux":{"namespaces":[{"type":"network"}]}}`,
		`{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.cri-o.SandboxID":"b"}}`,
		`{"linux":{"namespaces":[{"type":"network"},{"type":"network"}]}}`, `{"annotations":null,"linux":null}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := readBundle(dir)
		if err != nil {
			if b != nil {
				t.Fatalf("%q: both %+v and %v", data, b, err)
			}
			return
		}
		kind, path, err := b.network()
		if err == nil && (kind == networkGiven) != (path != "") {
			t.Fatalf("%q: network %d at %q", data, kind, path)
		}
		if is, sandbox := b.role(); is == roleOwn && sandbox != "" {
			t.Fatalf("%q: on its own, and in the sandbox %q", data, sandbox)
		}
		for _, key := range []string{podName, podNamespace, podUID, podHandler} {
			if word := b.word(key); word != "" && word != b.Annotations[key] {
				t.Fatalf("%q: %s is %q", data, key, word)
			}
		}
	})
}
