// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTheExitCodeSaysWhetherItWentWrong(t *testing.T) {
	for want, err := range []error{nil, errors.New("on purpose")} {
		if code := Run("test", func(context.Context) error { return err }); code != want {
			t.Errorf("error %v: exit code %d, want %d", err, code, want)
		}
	}
}

func TestASignalEndsTheContext(t *testing.T) {
	code := Run("test", func(ctx context.Context) error {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Minute):
			return errors.New("the context goes on")
		}
	})
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTheDateIsThatOfTheEnvironment(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if date, err := SourceDate(t.Context()); err != nil || !date.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("%s, %v", date, err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	if _, err := SourceDate(t.Context()); err == nil {
		t.Error("a time that is no number was taken")
	}
}

func TestTheDateIsThatOfTheCommitWhereTheEnvironmentHasNone(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	folder := t.TempDir()
	t.Chdir(folder)
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(folder))
	if date, err := SourceDate(t.Context()); err == nil || !strings.Contains(err.Error(), "set SOURCE_DATE_EPOCH") {
		t.Errorf("without a clone: %s, %v", date, err)
	}
	// The author's time is when a change was written; the committer's when it became this commit.
	t.Setenv("GIT_AUTHOR_DATE", "1600000000 +0000")
	t.Setenv("GIT_COMMITTER_DATE", "1700000000 +0500")
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"-c", "user.name=n", "-c", "user.email=n@example.com", "commit", "--quiet", "--allow-empty", "--message", "one"},
	} {
		if out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	if date, err := SourceDate(t.Context()); err != nil || !date.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("%s, %v", date, err)
	}
}
