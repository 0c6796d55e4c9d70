// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/descriptors"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/nsid"
)

// trace is what pods leave when something of them is held.
type trace struct{ namespaces []int }

func traces() (trace, error) {
	ids, err := nsid.All()
	return trace{ids}, err
}

// fresh is what neighpin has open once it has all that it keeps: the connection to the store comes after it is ready.
func (w *world) fresh(ctx context.Context) (map[string]int, error) {
	err := await.Within(ctx, patience, "neighpin to be connected to the store", func() error {
		status, err := w.daemon().Status(ctx)
		if err == nil && !status.Store.Connected {
			err = errors.New("it is not")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return w.open()
}

// open counts what neighpin has open, by kind.
func (w *world) open() (map[string]int, error) {
	list, err := descriptors.Open(strconv.Itoa(w.daemon().PID()))
	kinds := map[string]int{}
	for _, target := range list {
		kind, _, _ := strings.Cut(target, ":")
		if strings.HasPrefix(kind, bed.LogDir()) {
			kind = "log" // each process has its own
		}
		kinds[kind]++
	}
	return kinds, err
}

// left waits until nothing is left.
func (w *world) left(ctx context.Context, before trace, fresh map[string]int) error {
	if err := age(); err != nil {
		return err
	}
	for what, check := range map[string]func() error{
		"namespaces to be gone": func() error {
			now, err := nsid.All()
			now = slices.DeleteFunc(now, func(id int) bool { return slices.Contains(before.namespaces, id) || slices.Contains(w.ours(), id) })
			if err == nil && len(now) > 0 {
				err = fmt.Errorf("namespaces %v are there", now)
			}
			return err
		},
		"descriptors to be closed": func() error {
			now, err := w.open()
			for kind, n := range now {
				if n > fresh[kind] {
					err = errors.Join(err, fmt.Errorf("%d of %s are open, fresh there were %d", n, kind, fresh[kind]))
				}
			}
			return err
		},
		"the state folder to be empty": empty,
	} {
		if err := await.Within(ctx, patience, what, check); err != nil {
			return err
		}
	}
	// What a process that was killed left half-made goes when another starts.
	if err := w.restart(ctx); err != nil {
		return err
	}
	return await.Within(ctx, patience, "what is half-made to be gone", strays)
}

// ours are the numbers of the namespaces that the test itself has.
func (w *world) ours() (ids []int) {
	for _, path := range w.held {
		if id, err := nsid.Of(path); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// empty says what a state folder without sandboxes should not have.
func empty() error {
	for _, pattern := range []string{"sandboxes/*.json", "files/[0-9a-z]*"} {
		if found, err := filepath.Glob(filepath.Join(node.StateDir, pattern)); err != nil || len(found) > 0 {
			return fmt.Errorf("there are %v, %w", found, err)
		}
	}
	return nil
}

// age makes everything in the state folder so old that nobody can be working at it.
func age() error {
	then := time.Now().Add(-time.Hour)
	return filepath.WalkDir(node.StateDir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Chtimes(path, then, then)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// strays says what is in the state folder beside what has to be.
func strays() error {
	entries, err := os.ReadDir(node.StateDir)
	if err != nil {
		return err
	}
	var found []string
	for _, entry := range entries {
		switch entry.Name() {
		case "neighpin.sock", "records.lock":
		case "sandboxes", "files":
			inside, err := os.ReadDir(filepath.Join(node.StateDir, entry.Name()))
			if err != nil {
				return err
			}
			for _, entry := range inside {
				found = append(found, entry.Name())
			}
		default:
			found = append(found, entry.Name())
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("the state folder has %q", found)
	}
	return nil
}

// questions is how often the status is asked for before memory is looked at: each answer is garbage, so that the collector has been at
// work several times since whatever was before.
const questions = 2000

// ask asks for the status so often.
func ask(ctx context.Context) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(node.StateDir, "neighpin.sock"))
	}}}
	defer client.CloseIdleConnections()
	for range questions {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://neighpin/status", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("ask for the status: %w", err)
		}
		var status node.Status
		err = json.NewDecoder(response.Body).Decode(&status)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return fmt.Errorf("read the status: %w", err)
		}
	}
	return nil
}

// resident is the memory of neighpin in kB once its garbage is collected.
func (w *world) resident(t *testing.T) int {
	t.Helper()
	if err := ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	memory, err := w.daemon().Memory()
	if err != nil {
		t.Fatal(err)
	}
	return memory.ResidentKB
}

// residentAgain waits until neighpin uses as much memory as before, give or take a tenth. Go gives memory back in its own time.
func (w *world) residentAgain(t *testing.T, before int) {
	t.Helper()
	var now int
	err := await.Within(t.Context(), patience, "memory to be as before", func() error {
		if now = w.resident(t); now > before+before/10 {
			return fmt.Errorf("VmRSS is %d kB, was %d kB", now, before)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	figuref("VmRSS of one process with the same pods: %d kB, after a round more %d kB (%+.1f %%), both after %d questions for the status",
		before, now, 100*float64(now-before)/float64(before), questions)
}

// logged counts lines of all neighpins' logs by what they say.
func logged(texts ...string) (lines []string, err error) {
	paths, err := filepath.Glob(filepath.Join(bed.LogDir(), "neighpin-*.log"))
	if err != nil {
		return nil, err
	}
	counts := make([]int, len(texts))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for i, text := range texts {
			counts[i] += strings.Count(string(data), text)
		}
	}
	for i, text := range texts {
		lines = append(lines, fmt.Sprintf("said %d times: %s", counts[i], text))
	}
	return lines, nil
}
