// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/neighpin/neighpin/pkg/annotation"
)

// annotate gives the bundle the annotation. A file that says the same already is
// not touched.
func (b *bundle) annotate(value string) error {
	if says(b.Annotations[annotation.Key], value) {
		return nil
	}
	data, err := withAnnotation(b.data, annotation.Key, value)
	if err == nil {
		err = replace(b.path, data)
	}
	if err != nil {
		return fmt.Errorf("annotate %s: %w", b.path, err)
	}
	return nil
}

// says tells whether two values of the annotation name the same neighbors.
func says(old, value string) bool {
	before, err := annotation.Parse(old)
	if err != nil {
		return false
	}
	after, err := annotation.Parse(value)
	return err == nil && before.SameNeighbors(after)
}

// replace puts new content in a file's place at once; mode and owner stay.
func replace(path string, data []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(info.Mode().Perm()))
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := file.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}

var errTwice = errors.New("a key occurs twice")

// withAnnotation sets one annotation in a config.json. Every other byte stays as
// it is: order, white space and fields that are not known here.
func withAnnotation(data []byte, key, value string) ([]byte, error) {
	top, err := readObject(data)
	if err != nil {
		return nil, err
	}
	quotedKey, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	quoted, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	entry := fmt.Sprintf("%s:%s", quotedKey, quoted)
	at, found := top.values["annotations"]
	if !found {
		return splice(data, top.insertion(0), top.joined(`"annotations":{`+entry+"}")), nil
	}
	current := data[at.start:at.end]
	if string(current) == "null" {
		return splice(data, at, "{"+entry+"}"), nil
	}
	inner, err := readObject(current)
	if err != nil {
		return nil, fmt.Errorf("annotations: %w", err)
	}
	if old, found := inner.values[key]; found {
		return splice(data, span{at.start + old.start, at.start + old.end}, string(quoted)), nil
	}
	return splice(data, inner.insertion(at.start), inner.joined(entry)), nil
}

// span is a range of bytes.
type span struct{ start, end int }

func splice(data []byte, at span, text string) []byte {
	out := make([]byte, 0, len(data)+len(text))
	out = append(out, data[:at.start]...)
	out = append(out, text...)
	return append(out, data[at.end:]...)
}

// object is where the values of a JSON object are.
type object struct {
	open   int // behind the brace
	values map[string]span
}

// insertion is the place for a new first member, in a text that the object's own
// begins at offset.
func (o object) insertion(offset int) span { return span{offset + o.open, offset + o.open} }

// joined is a new first member's text.
func (o object) joined(entry string) string {
	if len(o.values) > 0 {
		return entry + ","
	}
	return entry
}

// readObject finds the members of the object that data begins with.
func readObject(data []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	token, err := decoder.Token()
	if err != nil {
		return object{}, err
	}
	if token != json.Delim('{') {
		return object{}, errors.New("not a JSON object")
	}
	o := object{open: int(decoder.InputOffset()), values: make(map[string]span)}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return object{}, err
		}
		name, _ := token.(string)
		if _, twice := o.values[name]; twice {
			return object{}, fmt.Errorf("%w: %.64q", errTwice, name)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return object{}, err
		}
		end := int(decoder.InputOffset())
		o.values[name] = span{end - len(value), end}
		if !bytes.Equal(data[end-len(value):end], value) {
			return object{}, fmt.Errorf("the value of %.64q is not where it should be", name)
		}
	}
	_, err = decoder.Token() // the closing brace
	return o, err
}
