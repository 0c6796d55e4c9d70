// SPDX-License-Identifier: Apache-2.0

// Package await waits for conditions that announce themselves in no other way than by being true.
package await

import (
	"context"
	"fmt"
	"time"
)

// Interval is the pause between two looks.
const Interval = 20 * time.Millisecond

// Condition calls check until it returns nil or ctx ends; the error then names what was awaited and holds
// what check said last. It looks at least once.
func Condition(ctx context.Context, what string, check func() error) error {
	return Every(ctx, Interval, what, check)
}

// Every is Condition with a pause of its own between two looks, where a look costs more than the wait.
func Every(ctx context.Context, pause time.Duration, what string, check func() error) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last seen: %w", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// Within is Condition with a deadline of its own.
func Within(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w after %s", context.DeadlineExceeded, limit))
	defer cancel()
	return Condition(ctx, what, check)
}
