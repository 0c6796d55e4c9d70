// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"testing"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// Just within each bound is taken, and just beyond it refused.
func TestEachBoundIsWhereTheDocumentHasIt(t *testing.T) {
	for text, want := range map[string]bool{
		replace("eth0", "~!"):                                          true,
		replace("eth0", "a b"):                                         false,
		replace("eth0", `a\u007f`):                                     false,
		replace("2026-11-22T00:18:00.5Z", "9999-12-31T23:59:59Z"):      true,
		replace("2026-11-22T00:18:00.5Z", "9999-12-31T23:59:59-01:00"): false,
		replace("2026-11-22T00:18:00.5Z", "0001-01-01T00:00:00.5Z"):    true,
		replace("4711", "99999999999999999999"):                        false,
		replace("58:00:01", "58:00:0f"):                                true,
		replace("58:00:01", "58:00:0g"):                                false,
		replace("58:00:01", "58:00:g0"):                                false,
		replace("58:00:01", "58:00:0/"):                                false,
		replace("58:00:01", "58:00:0:"):                                false,
		replace("58:00:01", "58:00:0`"):                                false,
	} {
		if _, err := annotation.Parse(text); (err == nil) != want {
			t.Errorf("taken is %t, want %t: %v\n%s", err == nil, want, err, text)
		}
	}
}
