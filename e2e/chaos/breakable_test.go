// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/neighpin/neighpin/e2e/internal/parts"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// brokenFile names the repair path that a breakable neighpin has not got at the moment. Nothing of this is in the product: the build
// lays changed copies of its sources over them (go build -overlay).
const brokenFile = "/run/np/broken"

// cutFolders are those of the packages that repair, whose sources are searched for the places to cut.
var cutFolders = []string{"pkg/sandbox", "pkg/internal/guard", "pkg/neighbor"}

// brokenSource is the one source that the product does not have, in each of cutFolders after its package's name.
const brokenSource = `// SPDX-License-Identifier: Apache-2.0

package %s

import "os"

func broken(path string) bool {
	name, err := os.ReadFile("` + brokenFile + `")
	return err == nil && string(name) == path
}
`

// cut is one place where a repair path can be cut: where the code reads was, it is made to read now, in which %s stands for
// the question whether the path is broken.
type cut struct{ path, was, now string }

var cuts = []cut{
	{podEvents, "case w.look == nil && !w.subject.ConcernedBy(ev):", "case w.look == nil && (%s || !w.subject.ConcernedBy(ev)):"},
	{linkEvents, "concerned = g.byLink[ev.Index]", "if !%s { concerned = g.byLink[ev.Index] }"},
	{addressEvents, "concerned := g.byGateway[ev.Dst]", "concerned := g.byGateway[ev.Dst]\nif %s { concerned = wards{} }"},
	{lostEvents, "concerns = true\n\t\t\tg.sweep()", "concerns = true\n\t\t\tif !%s { g.sweep() }"},
	// Four ways lead to a look at what changed while nobody was there, so all are cut.
	{takeover, "g.mind(w)\n\tg.mark(w, cause)", "g.mind(w)\n\tif cause != Takeover || !%s { g.mark(w, cause) }"},
	{takeover, "g.listens(nil)\n\tg.mu.Lock()\n\tg.sweep()", "g.listens(nil)\n\tg.mu.Lock()\n\tif !%s { g.sweep() }"},
	{takeover, "repaired := e.guard.Check(guard.Takeover, wards(settled)...)", "if %s { settled = nil }\n\trepaired := e.guard.Check(guard.Takeover, wards(settled)...)"},
	{takeover, "e.guard.Reappeared(wards(list)...)", "if !%s { e.guard.Reappeared(wards(list)...) }"},
	{lifeEvents, "if dirty {\n\t\t\terr = l.look(ctx, w)", "if dirty && !%s {\n\t\t\terr = l.look(ctx, w)"},
	{lifeNudges, "case <-l.nudge:\n", "case <-l.nudge:\n\t\tif %s { return false, nil }\n"},
	{handOver, "if lives {\n\t\te.guard.Take(s.ward, guard.Event)", "if lives && !%s {\n\t\te.guard.Take(s.ward, guard.Event)"},
	{comparison, "g.mark(w, Slow)", "if !%s { g.mark(w, Slow) }"},
	{withdrawal, "_, releaseErr := t.Release(ctx, untrue)", "if %s { untrue = nil }\n\t_, releaseErr := t.Release(ctx, untrue)"},
	{replacement, "; old || !n.Permanent() {", "; old && !%s || !n.Permanent() {"},
	{routeless, "if len(known) == 0 {\n\t\treturn nil, nil\n\t}\n\tnow, err", "if len(known) == 0 || %s {\n\t\treturn known, nil\n\t}\n\tnow, err"},
	{staleness, "reason neighbor.Reason) {\n\tsince := time.Now().UTC()", "reason neighbor.Reason) {\n\tif %s { return }\n\tsince := time.Now().UTC()"},
	{correction, "return c.correct(ctx, now.Outdated)", "if %s { return nil }\n\treturn c.correct(ctx, now.Outdated)"},
	{retry, "g.postpone(w, firstRetry<<w.failures)", "if !%s { g.postpone(w, firstRetry<<w.failures) }"},
	{forgetting, "func (e *Engine) forget(s *sandbox) {\n", "func (e *Engine) forget(s *sandbox) {\n\tif %s { return }\n"},
	{remains, "case rec.Gone(e.ctx):\n\t\te.removeRecord(s)\n\tcase rec.ByHand", "case rec.Gone(e.ctx):\n\t\tif !%s { e.removeRecord(s) }\n\tcase rec.ByHand"},
}

// breakable is the program that buildBreakable makes; by the name neighpin-... it would be a runtime's wrapper.
func breakable(programs setup.Programs) string {
	return filepath.Join(programs.Own, "breakable", "neighpin")
}

// buildBreakable builds a neighpin whose repair paths can be cut one by one. A cut whose place is not found, or more than once, is an
// error: the code has moved on, and the cut has to follow.
func buildBreakable(ctx context.Context, programs setup.Programs) error {
	e2e, err := parts.Root()
	if err != nil {
		return err
	}
	root := filepath.Dir(e2e)
	dir := filepath.Join(programs.Own, "breakable")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	overlay, err := cutSources(root, dir)
	if err != nil {
		return fmt.Errorf("break neighpin: %w", err)
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-overlay", file, "-o", breakable(programs), "./plugin")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build a breakable neighpin: %w\n%s", err, out)
	}
	return nil
}

// cutSources writes changed copies of the sources under root to a folder and says which is laid over which.
func cutSources(root, to string) (overlay map[string]string, err error) {
	sources, err := readSources(root)
	if err != nil {
		return nil, err
	}
	changed := map[string]bool{}
	for _, c := range cuts {
		found := 0
		for path, source := range sources {
			n := strings.Count(source, c.was)
			if found += n; n != 0 {
				sources[path] = strings.ReplaceAll(source, c.was, strings.ReplaceAll(c.now, "%s", fmt.Sprintf("broken(%q)", c.path)))
				changed[path] = true
			}
		}
		if found != 1 {
			return nil, fmt.Errorf("cut %q: %q is in the sources %d times, want once", c.path, c.was, found)
		}
	}
	for _, folder := range cutFolders {
		added := filepath.Join(root, folder, "broken.go")
		sources[added], changed[added] = fmt.Sprintf(brokenSource, filepath.Base(folder)), true
	}
	overlay = map[string]string{}
	for path := range changed {
		overlay[path] = filepath.Join(to, filepath.Base(filepath.Dir(path))+"_"+filepath.Base(path))
		if err := os.WriteFile(overlay[path], []byte(sources[path]), 0o644); err != nil {
			return nil, err
		}
	}
	return overlay, nil
}

// readSources reads the sources of cutFolders, by their paths.
func readSources(root string) (map[string]string, error) {
	sources := map[string]string{}
	for _, folder := range cutFolders {
		paths, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			sources[path] = string(data)
		}
	}
	return sources, nil
}
