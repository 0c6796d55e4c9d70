// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neighpin/neighpin/pkg/annotation"
)

const schemaFile = "../../docs/annotation.schema.json"

func TestSchemaAndParseAgree(t *testing.T) {
	schema := compileSchema(t)
	t.Run("both accept", func(t *testing.T) {
		texts := map[string]string{"three neighbors": mustMarshal(t, dualStack())}
		for name, text := range accepted {
			texts[name] = text
		}
		for name, text := range texts {
			if err := schema.Validate(decode(t, text)); err != nil {
				t.Errorf("%s: the schema refuses %s: %v", name, text, err)
			}
			if _, err := annotation.Parse(text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("both refuse", func(t *testing.T) {
		for name, c := range refused {
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(c.text))
			if err != nil {
				continue // no JSON, so no schema can be asked; Parse is, in its own test
			}
			if err := schema.Validate(v); err == nil {
				t.Errorf("%s: the schema accepts what Parse refuses: %.200s", name, c.text)
			}
		}
	})
	t.Run("rules beyond the schema are beyond it", func(t *testing.T) {
		for name, c := range beyondSchema {
			if err := schema.Validate(decode(t, c.text)); err != nil {
				t.Errorf("%s: the schema can express this rule, so move the case: %v", name, err)
			}
		}
	})
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func decode(t testing.TB, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
