// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/node"
)

const (
	address = "127.0.0.1:9717"
	// hostile is a pod's name, as a runtime takes it that nobody checks; CNI's arguments leave it neither = nor ;.
	hostile = `"><script>document.querySelector("title").replaceChildren("owned"),fetch("http://192.0.2.1/x")</script><style>@import "http://192.0.2.1/y"</style>`
)

// pods runs what the page is to show: a pod from before the daemon, two of gVisor, one with a hostile name.
func pods(t *testing.T, config string) *node.Daemon {
	t.Helper()
	run := func(spec node.PodSpec) {
		pod, err := bed.RunPod(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := pod.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		})
		if _, err := pod.Run(t.Context(), node.ContainerSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	run(node.PodSpec{Handler: "runsc", Name: "before-neighpin-0"})
	d, err := bed.StartDaemon(node.DaemonOptions{Args: []string{"--metrics-address", address, "--config", config}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(node.PodSpec{Handler: "runsc", Name: "web-7c9d8f6b5-x2x9p"})
	run(node.PodSpec{Handler: "runc", Name: hostile, Annotations: map[string]string{"neighpin.io/pin": "true"}})
	run(node.PodSpec{Handler: "runsc", Name: "checkout-5f7d9c8b44-abcde"})
	err = await.Within(t.Context(), time.Minute, "all pods to have started", func() error {
		status, err := d.Status(t.Context())
		if err != nil {
			return err
		}
		for _, sandbox := range status.Sandboxes {
			if sandbox.Timing.Verdict == "pending" {
				return fmt.Errorf("%s/%s has not", sandbox.Namespace, sandbox.Name)
			}
		}
		if len(status.Sandboxes) != 4 {
			return fmt.Errorf("there are %d", len(status.Sandboxes))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// visible are the texts of the elements that match and have a size.
const visible = `[...document.querySelectorAll(%q)].filter(e => e.getClientRects().length > 0).map(e => e.innerText.trim())`

func TestTheStatusPageInABrowser(t *testing.T) {
	config := filepath.Join(t.TempDir(), "neighpin.yaml")
	if err := os.WriteFile(config, []byte("handlers: [runsc]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := pods(t, config)
	b := open(t)
	for _, s := range []screen{
		{"phone", 390, 844, true, "light"}, {"phone-dark", 390, 844, true, "dark"},
		{"desktop", 1280, 900, false, "light"}, {"desktop-dark", 1280, 900, false, "dark"},
		{"narrow", 320, 640, true, "light"},
	} {
		t.Run(s.name, func(t *testing.T) {
			b.t = t
			b.use(s)
			b.visit("http://" + address + "/")
			shows(t, b)
			if wide := ask[float64](b, overflow); wide > 0 {
				t.Errorf("the page is %g pixels wider than the screen", wide)
			}
			background := map[string]string{"light": "rgb(246, 247, 249)", "dark": "rgb(16, 21, 28)"}[s.scheme]
			if got := ask[string](b, `getComputedStyle(document.body).backgroundColor`); got != background {
				t.Errorf("background %s, want %s: is the style in force?", got, background)
			}
			b.keep(s.name)
		})
	}
	b.t = t
	if list := b.elsewhere(address); len(list) != 0 {
		t.Errorf("the page asks elsewhere: %q", list)
	}
	if list := b.complaints(); len(list) != 0 {
		t.Errorf("the browser complains: %q", list)
	}
	inert(t, b)
	nonsense(t, b, d, config)
}

// shows checks what a person reads on the page.
func shows(t *testing.T, b *browser) {
	t.Helper()
	names := ask[[]string](b, fmt.Sprintf(visible, ".name"))
	want := []string{"checkout-5f7d9c8b44-abcde", hostile, "web-7c9d8f6b5-x2x9p", "before-neighpin-0"}
	if !slices.Equal(names, want) {
		t.Errorf("pods %q, want the newest first: %q", names, want)
	}
	verdicts := ask[[]string](b, fmt.Sprintf(visible, ".badge"))
	if len(verdicts) != 4 || verdicts[0] != "in time" || verdicts[2] != "in time" || verdicts[3] != "late" {
		t.Errorf("verdicts %q", verdicts)
	}
	text := ask[string](b, `document.body.innerText`)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{host, "Connected", "containerd", "In force", node.Gateway4.String(), node.Gateway6.String(), "peer", "need attention", "Heard"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %q:\n%s", want, text)
		}
	}
}

// inert checks that a hostile name is text. A script that ran would have changed the title.
func inert(t *testing.T, b *browser) {
	t.Helper()
	if n := ask[int](b, `document.scripts.length + document.images.length + document.querySelectorAll("iframe, form, object, embed").length`); n != 0 {
		t.Errorf("%d elements that the page does not have", n)
	}
	if title := ask[string](b, `document.title`); !strings.HasSuffix(title, "neighpin") {
		t.Errorf("title %q", title)
	}
	// Whatever got in: the policy does not let it run or ask.
	ask[chromedp.Void](b, `document.body.insertAdjacentHTML("beforeend", "<img src='http://192.0.2.1/y' onerror='document.title=1'>");
		document.body.append(Object.assign(document.createElement("script"), {textContent: "document.title = 'owned'"}))`)
	if title := ask[string](b, `document.title`); title == "owned" || title == "1" {
		t.Error("the policy let a script run that was put into the page")
	}
	b.mu.Lock()
	refused := len(b.said)
	b.said = nil
	b.mu.Unlock()
	if refused == 0 {
		t.Error("the browser does not say that it refused anything: complaints are not heard")
	}
}

// nonsense edits the file while the daemon runs; the page says that it is not in force.
func nonsense(t *testing.T, b *browser, d *node.Daemon, config string) {
	t.Helper()
	if err := os.WriteFile(config, []byte("handlers: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := await.Within(t.Context(), time.Minute, "the nonsense to be told", func() error {
		status, err := d.Status(t.Context())
		if err == nil && status.Config.OK {
			err = fmt.Errorf("the configuration is %+v", status.Config)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.use(screen{width: 390, height: 844, mobile: true, scheme: "light"})
	b.visit("http://" + address + "/?show=attention")
	text := ask[string](b, `document.querySelector(".part.bad").innerText`)
	if !strings.Contains(text, "Not taken over") || !strings.Contains(text, "stays in force") {
		t.Errorf("the page says %q of the configuration", text)
	}
	if names := ask[[]string](b, fmt.Sprintf(visible, ".name")); !slices.Equal(names, []string{"before-neighpin-0"}) {
		t.Errorf("what needs attention: %q", names)
	}
	ask[chromedp.Void](b, `document.querySelector("summary").click()`)
	if lines := ask[[]string](b, fmt.Sprintf(visible, "details li")); len(lines) == 0 {
		t.Error("the history does not open")
	}
	if wide := ask[float64](b, overflow); wide > 0 {
		t.Errorf("the page is %g pixels wider than the screen", wide)
	}
	b.keep("phone-attention")
}

// A page that is too wide, asks elsewhere and runs scripts is seen to: else the test above would prove nothing.
func TestTheBrowserSeesFaults(t *testing.T) {
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<meta name="viewport" content="width=device-width"><title>bad</title><div style="width:500px">wide</div><p class="name">%s</p>`, hostile)
	}))
	defer bad.Close()
	b := open(t)
	b.use(screen{width: 390, height: 844, mobile: true, scheme: "light"})
	b.visit(bad.URL)
	if wide := ask[float64](b, overflow); wide < 100 {
		t.Errorf("a page of 500 pixels is %g too wide", wide)
	}
	if title := ask[string](b, `document.title`); title != "owned" {
		t.Errorf("the hostile name is not: title %q", title)
	}
	list := b.elsewhere(strings.TrimPrefix(bad.URL, "http://"))
	slices.Sort(list)
	if !slices.Equal(list, []string{"http://192.0.2.1/x", "http://192.0.2.1/y"}) {
		t.Errorf("requests elsewhere: %q", list)
	}
}
