// SPDX-License-Identifier: Apache-2.0

// Package statuspage shows one node's status to people: a single page of HTML,
// with its style in it, without a script, and without anything from elsewhere.
// Names of pods are hostile input: html/template escapes them by where they stand,
// and a policy in the header keeps a browser from running or fetching anything.
package statuspage

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/neighpin/neighpin/pkg/record"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	styleText string
)

// State says how good something is, for its color.
type State string

// The states; the zero value is neither good nor bad.
const (
	Good State = "good"
	Warn State = "warn"
	Bad  State = "bad"
)

// Part is a connection or the like of the daemon.
type Part struct {
	// Name says what it is, Says how it is in a few words, and Detail more.
	Name, Says, Detail string
	// State is its color.
	State State
}

// View is what the page shows.
type View struct {
	// Node is the node's name, which may be unknown; Version is neighpin's.
	Node, Version string
	// StartedAt is the daemon's start.
	StartedAt time.Time
	// Parts are the daemon's connections and its configuration, in order.
	Parts []Part
	// Sandboxes are all there are, in any order.
	Sandboxes []record.Record
	// AsItShouldBe judges one of them.
	AsItShouldBe func(record.Record) bool
}

const (
	// kept is how many pages are in memory at once: some megabytes each on a full
	// node, and who does not read has one kept until the server gives up.
	kept = 4
	// patience is how long one more request waits for one of them to be read.
	patience = time.Second
)

// handler renders one page at a time: who asks again and again takes no more than
// one processor's turn, and no more memory than a few pages.
type handler struct {
	view   func() View
	now    func() time.Time
	page   *template.Template
	policy string
	pages  chan struct{} // has room for as many as are kept

	mu sync.Mutex
}

// New returns the page's handler; view is asked for each page.
func New(view func() View) (http.Handler, error) {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("parse status page: %w", err)
	}
	hash := sha256.Sum256([]byte(styleText))
	return &handler{
		view: view, now: time.Now, page: page, pages: make(chan struct{}, kept),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}, nil
}

// ServeHTTP answers with the page. The query may have show=attention or show=all,
// and refresh=yes; anything else counts as nothing. It answers 503 when readers are
// slow.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case h.pages <- struct{}{}:
		defer func() { <-h.pages }()
	case <-r.Context().Done():
		return
	case <-time.After(patience):
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many are reading this page; try again in ten seconds", http.StatusServiceUnavailable)
		return
	}
	query := r.URL.Query()
	page, err := h.render(query.Get("show"), query.Has("refresh"))
	if err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(page) //nolint:gosec // made by html/template; and a reader that left is no fault
}

func (h *handler) render(show string, refresh bool) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := arrange(h.view(), show, h.now())
	p.Refresh = refresh
	p.Style = template.CSS(styleText) //nolint:gosec // our own file
	var out bytes.Buffer
	if err := h.page.Execute(&out, p); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
