// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// browser is a tab of a browser of its own, and what it did besides showing a page.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex // guards the following
	requests []string   // URLs, of which data: is none
	said     []string   // what the console says, violations of the page's policy, errors of scripts, dialogs
}

// open starts a browser. The enclosure has no way out, so what it wants from elsewhere fails, but is seen.
func open(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(setup.BrowserProgram), chromedp.NoSandbox, // the test runs as root, in namespaces of its own
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // which the browser lives as long as
		t.Fatalf("start a browser: %v", err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{log.Enable, runtime.Enable} { //nolint:forbidigo // the browser's log, not ours
		_, enabling := chromedp.Call(ctx, enable, cdp.Empty{})
		err = errors.Join(err, enabling)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(ev.Request.URL, "data:") {
			b.requests = append(b.requests, ev.Request.URL)
		}
	case *log.EventEntryAdded: //nolint:forbidigo // the browser's log, not ours
		b.said = append(b.said, ev.Entry.Text) //nolint:forbidigo // likewise
	case *runtime.EventConsoleAPICalled:
		b.said = append(b.said, "console: "+string(ev.Type))
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, ev.ExceptionDetails.Text)
	case *page.EventJavascriptDialogOpening:
		b.said = append(b.said, "dialog: "+ev.Message)
	}
}

// elsewhere are the requests to others than the host that is meant.
func (b *browser) elsewhere(host string) (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, request := range b.requests {
		if u, err := url.Parse(request); err != nil || u.Host != host {
			list = append(list, request)
		}
	}
	return list
}

func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said
}

func (b *browser) visit(address string) {
	b.t.Helper()
	do(b, chromedp.Navigate(address))
}

// do lets the browser do one thing, for a minute at most.
func do[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// ask evaluates an expression as the browser's own tools do, which no policy of a page forbids.
func ask[T any](b *browser, expression string) T {
	b.t.Helper()
	return do(b, chromedp.Evaluate[T](expression))
}

// screen is what somebody looks at a page with.
type screen struct {
	name          string
	width, height int64
	mobile        bool
	scheme        string // light or dark
}

func (b *browser) use(s screen) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: s.height, DeviceScaleFactor: 2, Mobile: s.mobile})
	if err == nil {
		_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia,
			emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}}})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// overflow is by how many pixels the page, or anything in it, is wider than the screen.
const overflow = `Math.max(document.documentElement.scrollWidth,
	...[...document.querySelectorAll("body *")].map(e => e.getBoundingClientRect().right)) - document.documentElement.clientWidth`

// keep saves a picture of the whole page where a person finds it.
func (b *browser) keep(name string) {
	b.t.Helper()
	root, err := parts.Root()
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(root), "bin", "statuspage", name+".png")
	picture := do(b, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("screenshot: %s", path)
}
