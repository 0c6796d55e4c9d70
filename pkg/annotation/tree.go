// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDepth is the nesting of the format: the object, its neighbors, one of them,
// its state.
const maxDepth = 4

// object and array are the composite values of a tree; its leaves are strings,
// json.Number, bool and nil.
type (
	object map[string]any
	array  []any
)

// parseTree reads exactly one JSON value and refuses an object that has a key
// twice. encoding/json alone would let the last one win and match keys without
// regard to case, so two readers of one text could see different neighbors.
func parseTree(s string) (any, error) {
	if !utf8.ValidString(s) {
		return nil, at("", "want JSON in UTF-8, got other bytes")
	}
	// The scanner behind Unmarshal knows the whole grammar, trailing data
	// included; the walk below can then rely on well-formed input.
	var whole json.RawMessage
	if err := json.Unmarshal([]byte(s), &whole); err != nil {
		// Its text holds the offending character as it is, so it is not wrapped.
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, at("", "want one JSON object: at byte %d: %s", syntax.Offset, quote(err.Error()))
		}
		return nil, at("", "want one JSON object: %s", quote(err.Error()))
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	return walk(dec, "", 0)
}

func walk(dec *json.Decoder, path string, depth int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, at(path, "%w", err)
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth == maxDepth {
		return nil, at(path, "want at most %d levels of nesting", maxDepth)
	}
	if delim == '[' {
		return walkArray(dec, path, depth)
	}
	return walkObject(dec, path, depth)
}

func walkArray(dec *json.Decoder, path string, depth int) (any, error) {
	items := array{}
	for dec.More() {
		v, err := walk(dec, fmt.Sprintf("%s[%d]", path, len(items)), depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	_, err := dec.Token() // the closing bracket
	return items, err
}

func walkObject(dec *json.Decoder, path string, depth int) (any, error) {
	members := object{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, at(path, "%w", err)
		}
		key, _ := tok.(string) // by the grammar it is one
		if _, ok := members[key]; ok {
			return nil, at(path, "key %s stands there twice", quote(key))
		}
		v, err := walk(dec, join(path, key), depth+1)
		if err != nil {
			return nil, err
		}
		members[key] = v
	}
	_, err := dec.Token() // the closing brace
	return members, err
}

// join appends a key to a path; a key that is none of ours is quoted.
func join(path, key string) string {
	switch key {
	case "version", "cookie", "capturedAt", "neighbors", "dst", "dev", "lladdr", "state", "source":
	default:
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// exactly refuses an object that lacks one of the keys or has another one.
func (o object) exactly(path string, keys ...string) error {
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(keys, k) {
			return at(path, "unknown key %s, known: %s", quote(k), strings.Join(keys, ", "))
		}
	}
	for _, k := range keys {
		if _, ok := o[k]; !ok {
			return at(path, "key %q is missing", k)
		}
	}
	return nil
}

// describe names a value in an error.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case json.Number:
		return quote(v.String())
	case object:
		return "an object"
	case array:
		return "an array"
	case nil:
		return "null"
	default:
		return fmt.Sprint(v) // true, false
	}
}
