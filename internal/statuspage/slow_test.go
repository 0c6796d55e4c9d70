// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// slowReader takes nothing of an answer until it is told to.
type slowReader struct {
	*httptest.ResponseRecorder
	begun   chan<- struct{}
	goAhead <-chan struct{}
}

func (s slowReader) Write(data []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.goAhead
	return s.ResponseRecorder.Write(data)
}

// Pods may reach the port: whoever asks and does not read must not have page after page kept for him.
func TestSlowReadersHaveFewPagesKept(t *testing.T) {
	h, err := New(func() View { return View{AsItShouldBe: right} })
	if err != nil {
		t.Fatal(err)
	}
	ask := func(w http.ResponseWriter, ctx context.Context) {
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	}
	begun, goAhead := make(chan struct{}, kept+1), make(chan struct{})
	served := make(chan int, kept)
	for range kept {
		go func() {
			w := slowReader{httptest.NewRecorder(), begun, goAhead}
			ask(w, context.WithoutCancel(t.Context()))
			served <- w.Code
		}()
		<-begun
	}
	one := httptest.NewRecorder()
	ask(one, t.Context())
	if one.Code != http.StatusServiceUnavailable || one.Header().Get("Retry-After") == "" || one.Body.Len() > 200 {
		t.Errorf("beside %d slow readers one more got %d: %s", kept, one.Code, one.Body)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	ask(httptest.NewRecorder(), gone) // returns
	close(goAhead)
	for range kept {
		if code := <-served; code != http.StatusOK {
			t.Errorf("a slow reader got %d", code)
		}
	}
	again := httptest.NewRecorder()
	if ask(again, t.Context()); again.Code != http.StatusOK {
		t.Errorf("afterwards: %d", again.Code)
	}
}
