// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/neighpin/neighpin/e2e/internal/await"
)

// errFroze says that a call failed because containerd stood still, by a fault of its own.
var errFroze = errors.New("containerd stood still")

// call calls containerd's CRI while it is there. Where a call is not answered in time because containerd waits for itself, it is killed and
// started again, and the error wraps errFroze.
func (w *world) call(ctx context.Context, fn func() error) error {
	w.cri.RLock()
	thawed := w.thawed
	err := fn()
	w.cri.RUnlock()
	if err == nil || !timedOut(err) {
		return err
	}
	froze, thawErr := w.thaw(ctx, thawed)
	if froze {
		return fmt.Errorf("%w: %w", errFroze, errors.Join(err, thawErr))
	}
	return errors.Join(err, thawErr)
}

// timedOut tells whether a call of the CRI was not answered in time. Errors may be several, joined.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded || strings.Contains(err.Error(), codes.DeadlineExceeded.String())
}

// thaw finds out whether containerd stands still, and wakes it; nothing calls it meanwhile. It did stand still, too, when somebody else has
// woken it since the call began: then that was when it had been woken so many times.
func (w *world) thaw(ctx context.Context, thawed int) (froze bool, err error) {
	w.cri.Lock()
	defer w.cri.Unlock()
	if w.thawed != thawed {
		return true, nil
	}
	stacks, err := bed.Stacks(ctx)
	if err != nil || !deadlocked(stacks) {
		return false, err
	}
	w.thawed++
	w.count("containerd stood still by its own lock, killed", 1)
	bed.KillContainerd()
	return true, bed.RestartContainerd(ctx, nil)
}

// deadlocked tells whether containerd waits for itself, by what its goroutines do: one removes a sandbox and, for a container in it, asks a second
// time for the lock that it holds, while a plugin that registers waits to have it alone.
func deadlocked(stacks string) bool {
	var twice, alone bool
	for goroutine := range strings.SplitSeq(stacks, "\n\n") {
		twice = twice || strings.Contains(goroutine, ").BlockPluginSync(") && strings.Contains(goroutine, ").RemoveContainer(") &&
			strings.Contains(goroutine, ").RemovePodSandbox(") && strings.Contains(goroutine, "RLock")
		alone = alone || strings.Contains(goroutine, ").requestPluginSync(") && strings.Contains(goroutine, "RWMutex).Lock(")
	}
	return twice && alone
}

// givenUp tells whether containerd took a sandbox for dead because its shim did not answer within two seconds when containerd started again, as happens on
// a machine with too much to do. The kubelet would make another.
func givenUp(id string) bool {
	log, err := os.ReadFile(filepath.Join(bed.LogDir(), "containerd.log"))
	return err == nil && strings.Contains(string(log), `Failed to load sandbox status for \"`+id)
}

// sweep removes the sandboxes of calls that failed, so that nothing else is said of these.
func (w *world) sweep(ctx context.Context) error {
	w.cri.Lock()
	defer w.cri.Unlock()
	ids, err := bed.Sandboxes(ctx)
	for _, id := range ids {
		if !slices.ContainsFunc(w.pods(), func(p *pod) bool { return p.ID == id }) {
			// Again and again, as the kubelet does.
			err = errors.Join(err, await.Within(ctx, patience, "the removal of sandbox "+id, func() error { return bed.RemovePod(ctx, id) }))
		}
	}
	return err
}

// The control for all this: containerd stands still when a plugin registers while a sandbox with a container is removed, here for the two seconds
// that it waits for a plugin which does not answer.
func TestContainerdThatStandsStillIsWoken(t *testing.T) {
	w := newWorld(t, "")
	stays := w.add(t, false, "", false)
	const tries = 20 // a machine with too much to do does not start a neighpin within two seconds
	for range tries {
		leaves := w.add(t, false, "", false)
		w.stays = w.stays[:1]
		if w.standStill(t, leaves) {
			break
		}
	}
	if w.thawed == 0 {
		t.Fatalf("containerd never stood still")
	}
	// While it registers, containerd would stand still once more, in a removal that nobody watches.
	if err := ready(t.Context(), w.daemon()); err != nil {
		t.Fatal(err)
	}
	if err := w.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.check(t, "containerd stood still")
	if _, err := stays.container.Connect(t.Context()); err != nil {
		t.Error(err)
	}
}

// standStill removes a pod while one neighpin does not answer and another registers.
func (w *world) standStill(t *testing.T, leaves *pod) bool {
	t.Helper()
	const patient = 10 * time.Second // for a removal that takes half a second, and two where a plugin does not answer
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	silent := w.daemon()
	if err := syscall.Kill(silent.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- w.call(t.Context(), func() error { return leaves.RemoveAtOnce(ctx) }) }()
	err := await.Within(t.Context(), patience, "the removal to begin", func() error {
		log, err := os.ReadFile(filepath.Join(bed.LogDir(), "containerd.log"))
		if err == nil && !strings.Contains(string(log), `Forcibly stopping sandbox \"`+leaves.ID) {
			err = errors.New("it has not begun")
		}
		return err
	})
	if err == nil {
		_, err = w.launch()
	}
	if err := errors.Join(err, silent.Kill()); err != nil {
		t.Fatal(err)
	}
	err = <-result
	switch {
	case errors.Is(err, errFroze):
		return true
	case err == nil:
	case timedOut(err):
		t.Logf("the removal took longer than %s, and containerd did not stand still: %v", patient, err) // it is swept
	default:
		t.Fatal(err)
	}
	return false
}
