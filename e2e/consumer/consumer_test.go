// SPDX-License-Identifier: Apache-2.0

package consumer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// What the program exits with; its main.c says so.
const (
	done           = 0
	failed         = 1
	malformed      = 2
	otherVersion   = 3
	otherNamespace = 4
)

// compile returns the program.
func compile(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "consumer")
	if err := setup.Consumer(t.Context(), os.Stderr, program); err != nil {
		t.Fatal(err)
	}
	return program
}

// execute returns the exit code, and what was said on both streams, the errors last.
func execute(t testing.TB, program, input string, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for _, r := range complaints.String() {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Fatalf("what it complains of holds %U: %q", r, complaints.String())
		}
	}
	return cmd.ProcessState.ExitCode(), out.String() + complaints.String()
}

func TestItDecidesEveryPublishedCaseAsTheDocumentSays(t *testing.T) {
	program := compile(t)
	data, err := os.ReadFile("../../docs/annotation.cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Name, Value, Want string }
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) < 80 {
		t.Fatalf("docs/annotation.cases.json has %d cases: %v", len(cases), err)
	}
	codes := map[string]int{"accept": done, "refuse": malformed, "version": otherVersion}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			want, ok := codes[c.Want]
			if !ok {
				t.Fatalf("want %q?", c.Want)
			}
			if beyondSigned[c.Name] {
				want = malformed
			}
			if code, said := execute(t, program, c.Value, "check"); code != want {
				t.Errorf("exit code %d, want %d (%s) for %s\n%s", code, want, c.Want, c.Value, said)
			}
		})
	}
}

// beyondSigned are the cases of integers that the program's JSON library cannot hold; the document allows to refuse them.
var beyondSigned = map[string]bool{"largest cookie": true, "version of 1000 digits": true}

func TestItHoldsTheLimits(t *testing.T) {
	program := compile(t)
	value := valueOf(4711, entries(256)...)
	spaces := func(size int) string { return value + strings.Repeat(" ", size-len(value)) }
	for name, c := range map[string]struct {
		value string
		want  int
	}{
		"as many neighbors as there may be": {value, done},
		"one more":                          {valueOf(4711, entries(257)...), malformed},
		"as many bytes as there may be":     {spaces(65536), done},
		"one byte more":                     {spaces(65537), malformed},
		"ten megabytes":                     {strings.Repeat("x", 10<<20), malformed},
		"nested without end":                {strings.Repeat("[", 65536), malformed},
		"bytes that are no UTF-8":           {strings.Replace(value, "eth0", "eth\xff", 1), malformed},
	} {
		t.Run(name, func(t *testing.T) {
			if code, said := execute(t, program, c.value, "check"); code != c.want {
				t.Errorf("exit code %d, want %d: %.200s", code, c.want, said)
			}
		})
	}
}

// A runtime has moved the pod's link into a namespace of its own, where the neighbor table is empty.
func TestItPinsInANamespaceOfItsOwnWhatTheBundleCarries(t *testing.T) {
	program := compile(t)
	pod, own := nstest.New(t), newOwn(t)
	neighbors := []neighbor{
		{"10.88.0.1", "eth0", "0a:58:0a:58:00:01", []string{"PERMANENT"}},
		{"fd00:88::1", "eth0", "0a:58:0a:58:00:01", []string{"PERMANENT"}},
		{"fe80::1", "eth0", "0a:58:0a:58:00:02", []string{"PERMANENT"}},
		{"fe80::1", "net1", "0a:58:0a:58:00:03", []string{"PERMANENT"}},
	}
	// Whatever stood there before gives way.
	own.IP("neigh add 10.88.0.1 lladdr 0a:00:00:00:00:99 dev eth0 nud permanent")
	config := writeConfig(t, pod, valueOf(pod.Cookie(), neighbors...))
	if code, said := execute(t, program, "", "apply", config, own.Ref()); code != done {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if diff := gocmp.Diff(neighbors, permanent(t, own)); diff != "" {
		t.Errorf("ip -json neigh in its own namespace (-annotated +there):\n%s", diff)
	}
	if got := pod.Output("neigh", "show"); got != "" {
		t.Errorf("the pod's own namespace was changed: %s", got)
	}
}

func TestItAppliesNothingThatItCannotBelieve(t *testing.T) {
	program := compile(t)
	pod, own := nstest.New(t), newOwn(t)
	good := neighbor{"10.88.0.1", "eth0", "0a:58:0a:58:00:01", []string{"PERMANENT"}}
	group, absent := good, good
	group.Dst, group.LLAddr = "10.88.0.2", "01:00:5e:00:00:01"
	absent.Dev = "net9"
	hostile := good
	hostile.Dev = "\u202eeth0\n"
	value := valueOf(pod.Cookie(), good)
	for name, c := range map[string]struct {
		config string
		want   int
	}{
		"no annotation":             {writeConfig(t, pod, ""), done},
		"of another namespace":      {writeConfig(t, pod, valueOf(own.Cookie(), good)), otherNamespace},
		"a bundle without one":      {writeConfig(t, nil, value), otherNamespace},
		"of another version":        {writeConfig(t, pod, strings.Replace(value, `"version":1`, `"version":2`, 1)), otherVersion},
		"second neighbor malformed": {writeConfig(t, pod, valueOf(pod.Cookie(), good, group)), malformed},
		"second link absent":        {writeConfig(t, pod, valueOf(pod.Cookie(), good, absent)), failed},
		"a link named to confuse":   {writeConfig(t, pod, valueOf(pod.Cookie(), hostile)), malformed},
		"an escape for a terminal":  {writeConfig(t, pod, "\x1b[2J"), malformed},
		"a zero byte at the end":    {writeConfig(t, pod, value+"\x00"), malformed},
		"ten megabytes":             {writeConfig(t, pod, strings.Repeat("x", 10<<20)), malformed},
	} {
		t.Run(name, func(t *testing.T) {
			if code, said := execute(t, program, "", "apply", c.config, own.Ref()); code != c.want {
				t.Errorf("exit code %d, want %d: %s", code, c.want, said)
			}
			if got := permanent(t, own); len(got) != 0 {
				t.Errorf("pinned nevertheless: %+v", got)
			}
		})
	}
}

// neighbor has the names of `ip -json neigh`, which are those of the annotation.
type neighbor struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	LLAddr string   `json:"lladdr"`
	State  []string `json:"state"`
}

// valueOf writes an annotation by hand, like somebody who has only the document.
func valueOf(cookie uint64, neighbors ...neighbor) string {
	list := make([]string, len(neighbors))
	for i, n := range neighbors {
		dev, _ := json.Marshal(n.Dev) // a string is always valid
		list[i] = fmt.Sprintf(`{"dst":%q,"dev":%s,"lladdr":%q,"state":["PERMANENT"],"source":"peer"}`, n.Dst, dev, n.LLAddr)
	}
	return fmt.Sprintf(`{"version":1,"cookie":%d,"capturedAt":"2026-11-22T00:18:00Z","neighbors":[%s]}`, cookie, strings.Join(list, ","))
}

func entries(count int) []neighbor {
	list := make([]neighbor, count)
	for i := range list {
		list[i] = neighbor{Dst: fmt.Sprintf("10.88.%d.%d", i/256, i%256), Dev: "eth0", LLAddr: "0a:58:0a:58:00:01"}
	}
	return list
}

// newOwn is a runtime's own namespace with the pod's two links in it.
func newOwn(t *testing.T) *nstest.NS {
	t.Helper()
	host, own := nstest.New(t), nstest.New(t)
	own.Veth("eth0", host, "veth0")
	own.Veth("net1", host, "veth1")
	own.IP("addr add 10.88.0.2/24 dev eth0", "addr add fd00:88::2/64 dev eth0 nodad")
	return own
}

// permanent is what `ip -json neigh` shows, in the annotation's order.
func permanent(t *testing.T, ns *nstest.NS) []neighbor {
	t.Helper()
	var list []neighbor
	if out := ns.Output("-json", "neigh", "show", "nud", "permanent"); out != "" {
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(list, func(a, b neighbor) int {
		return cmp.Or(strings.Compare(a.Dev, b.Dev), netip.MustParseAddr(a.Dst).Compare(netip.MustParseAddr(b.Dst)))
	})
	return list
}

// writeConfig writes a bundle's config.json that names the pod's namespace, if there is one.
func writeConfig(t *testing.T, pod *nstest.NS, value string) string {
	t.Helper()
	namespace := map[string]string{"type": "network"}
	if pod != nil {
		namespace["path"] = pod.Mount()
	}
	// What other people write there may be odd.
	annotations := map[string]string{"example.org/odd": "\x00\u2028"}
	if value != "" {
		annotations["io.neighpin.neighbors"] = value
	}
	data, err := json.Marshal(map[string]any{
		"ociVersion":  "1.2.0",
		"annotations": annotations,
		"linux":       map[string]any{"namespaces": []any{map[string]string{"type": "pid"}, namespace}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
