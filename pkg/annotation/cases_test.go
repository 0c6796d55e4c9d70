// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/neighpin/neighpin/pkg/annotation"
)

var update = flag.Bool("update", false, "write the cases for other readers instead of comparing them")

// casesFile is for readers in other languages; docs/annotation.md tells of it.
const casesFile = "../../docs/annotation.cases.json"

// readerCase is what a reader of the format must do with one text.
type readerCase struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Want  string `json:"want"` // "accept", "refuse", or "version" for a refusal because of the version
}

// The cases that this package is held to are published, as far as they are short, for readers that cannot import it.
func TestTheCasesForOtherReadersAreThoseOfThisOne(t *testing.T) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(readerCases()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(casesFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(casesFile)
	if err != nil || !bytes.Equal(have, b.Bytes()) {
		t.Errorf("docs/annotation.cases.json is not up to date (%v); write it again: go test ./pkg/annotation -run CasesForOtherReaders -update", err)
	}
}

func readerCases() []readerCase {
	const long = 4 << 10 // those that test a limit are easily made anew
	var cases []readerCase
	for _, name := range slices.Sorted(maps.Keys(accepted)) {
		cases = append(cases, readerCase{name, accepted[name], "accept"})
	}
	for _, group := range []map[string]refusal{refused, beyondSchema} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			if len(group[name].text) > long {
				continue
			}
			want := "refuse"
			if _, err := annotation.Parse(group[name].text); errors.Is(err, annotation.ErrVersion) {
				want = "version"
			}
			cases = append(cases, readerCase{name, group[name].text, want})
		}
	}
	return cases
}
