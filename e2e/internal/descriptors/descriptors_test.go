// SPDX-License-Identifier: Apache-2.0

package descriptors

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, process string) []string {
	t.Helper()
	list, err := Open(process)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAForgottenFileIsFound(t *testing.T) {
	before := open(t, "self")
	path := t.TempDir() + "/forgotten"
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if left := Left(before, open(t, strconv.Itoa(os.Getpid()))); !slices.Equal(left, []string{path}) {
		t.Errorf("left %v, want %s", left, path)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if left := Left(before, open(t, "self")); len(left) != 0 {
		t.Errorf("left %v after the file was closed", left)
	}
}

func TestAFileThatIsClosedLateIsWaitedForAndAForgottenOneIsNamed(t *testing.T) {
	before := open(t, "self")
	path := t.TempDir() + "/late"
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Closed(t.Context(), time.Millisecond, before); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Closed: %v, want %s named", err, path)
	}
	closed := make(chan error)
	go func() { closed <- file.Close() }()
	if err := errors.Join(Closed(t.Context(), time.Minute, before), <-closed); err != nil {
		t.Error(err)
	}
}

// Two of one kind are two.
func TestEqualTargetsAreCounted(t *testing.T) {
	if left := Left([]string{"/dev/null"}, []string{"/dev/null", "/dev/null"}); !slices.Equal(left, []string{"/dev/null"}) {
		t.Errorf("left %v, want one more /dev/null", left)
	}
}
