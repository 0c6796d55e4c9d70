// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"strconv"
	"time"
)

// Marshal returns the value to put under [Key]: one line of JSON whose neighbors
// are ordered by dev and dst, so that equal annotations have equal text. It
// checks what [Parse] checks and returns an [*Error] that names the field; what
// it returns, Parse accepts.
//
// It is written by hand, and not by encoding/json: a runtime that creates a
// container waits for it.
func (a *Annotation) Marshal() (string, error) {
	if err := a.validate(); err != nil {
		return "", during("marshal", err)
	}
	const head, each = 96, 144 // room for usual ones
	b := make([]byte, 0, head+each*len(a.Neighbors))
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, Version, 10)
	b = append(b, `,"cookie":`...)
	b = strconv.AppendUint(b, a.Cookie, 10)
	b = append(b, `,"capturedAt":"`...)
	b = append(b, formatTime(a.CapturedAt)...)
	b = append(b, `","neighbors":[`...)
	for i, e := range a.sorted() {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.append(b)
	}
	return string(append(b, `]}`...)), nil
}

// append writes a valid entry. Only dev can have characters that need a
// backslash, all of them printable ASCII, for which Go's form is that of JSON.
func (e Entry) append(b []byte) []byte {
	b = append(b, `{"dst":"`...)
	b = e.Dst.AppendTo(b)
	b = append(b, `","dev":`...)
	b = strconv.AppendQuote(b, e.Dev)
	b = append(b, `,"lladdr":"`...)
	b = append(b, e.LLAddr...)
	b = append(b, `","state":["`+StatePermanent+`"],"source":"`...)
	b = append(b, e.Source...)
	return append(b, `"}`...)
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
