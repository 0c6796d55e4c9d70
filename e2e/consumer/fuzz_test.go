// SPDX-License-Identifier: Apache-2.0

package consumer

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// FuzzItAgreesWithTheLibrary gives one text to both readers: two that disagree could be shown different neighbors.
func FuzzItAgreesWithTheLibrary(f *testing.F) {
	data, err := os.ReadFile("../../docs/annotation.cases.json")
	if err != nil {
		f.Fatal(err)
	}
	var cases []struct{ Value string }
	if err := json.Unmarshal(data, &cases); err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		f.Add(c.Value)
	}
	program := compile(f)
	// The document allows a reader to refuse them.
	beyondSigned := regexp.MustCompile(`[0-9]{19}`)
	f.Fuzz(func(t *testing.T, value string) {
		if beyondSigned.MatchString(value) {
			return
		}
		_, err := annotation.Parse(value)
		code, said := execute(t, program, value, "check")
		if code != done && code != malformed && code != otherVersion {
			t.Fatalf("exit code %d: %s", code, said)
		}
		if (err == nil) != (code == done) {
			t.Fatalf("the library says %v, the consumer %d: %s", err, code, said)
		}
	})
}
