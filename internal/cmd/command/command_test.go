// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
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
	for set, want := range map[string]int64{"": 0, "1700000000": 1700000000} {
		t.Setenv("SOURCE_DATE_EPOCH", set)
		if date, err := SourceDate(); err != nil || !date.Equal(time.Unix(want, 0)) {
			t.Errorf("%q: %s, %v", set, date, err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	if _, err := SourceDate(); err == nil {
		t.Error("a time that is no number was taken")
	}
}
