// SPDX-License-Identifier: Apache-2.0

// Package command is what the repository's own programs have in common, here and in e2e/cmd: how they end, and the time of what they
// build.
package command

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Run runs a program whose context ends with SIGINT and SIGTERM, says on standard error what went wrong, and returns the exit code.
func Run(name string, run func(context.Context) error) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	return 0
}

// SourceDate is $SOURCE_DATE_EPOCH, in seconds since 1970, as https://reproducible-builds.org/specs/source-date-epoch defines it; where
// it is not set, 1970 itself.
func SourceDate() (time.Time, error) {
	seconds, err := strconv.ParseInt(cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), "0"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0), nil
}
