// SPDX-License-Identifier: Apache-2.0

// Package command is what the repository's own programs have in common, here and in e2e/cmd: how they end, and the time of what they
// build.
package command

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
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
// it is empty or not set, the time of the commit that the working folder's checkout is at, as git tells it.
func SourceDate(ctx context.Context) (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		cmd := exec.CommandContext(ctx, "git", "log", "-1", "--no-show-signature", "--format=%ct")
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("ask git for the commit's time (set SOURCE_DATE_EPOCH where there is no clone): %w: %s", err, strings.TrimSpace(said.String()))
		}
		epoch = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0), nil
}
