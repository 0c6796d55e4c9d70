// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/json"
	"strings"
	"time"
)

// wire is the annotation's JSON form, with its keys in the order written.
type wire struct {
	Version    int         `json:"version"`
	Cookie     uint64      `json:"cookie"`
	CapturedAt string      `json:"capturedAt"`
	Neighbors  []wireEntry `json:"neighbors"`
}

type wireEntry struct {
	Dst    string       `json:"dst"`
	Dev    string       `json:"dev"`
	LLAddr HardwareAddr `json:"lladdr"`
	State  []string     `json:"state"`
	Source Source       `json:"source"`
}

// Marshal returns the value to put under [Key]: one line of JSON whose neighbors
// are ordered by dev and dst, so that equal annotations have equal text. It
// checks what [Parse] checks and returns an [*Error] that names the field; what
// it returns, Parse accepts.
func (a *Annotation) Marshal() (string, error) {
	if err := a.validate(); err != nil {
		return "", during("marshal", err)
	}
	w := wire{
		Version:    Version,
		Cookie:     a.Cookie,
		CapturedAt: formatTime(a.CapturedAt),
		Neighbors:  make([]wireEntry, 0, len(a.Neighbors)),
	}
	for _, e := range a.sorted() {
		w.Neighbors = append(w.Neighbors, wireEntry{
			Dst:    e.Dst.String(),
			Dev:    e.Dev,
			LLAddr: e.LLAddr,
			State:  []string{StatePermanent},
			Source: e.Source,
		})
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a link may be called a<b; nobody puts this into a web page as it is
	if err := enc.Encode(w); err != nil {
		return "", during("marshal", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
