// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/neighpin/neighpin/e2e/internal/node"
)

// pods runs count pods, parallel at a time: each is started with one container, handed to check and removed.
// Every error of every pod is returned.
func pods(ctx context.Context, count, parallel int, spec node.PodSpec, check func(context.Context, *node.Pod, *node.Container) error) error {
	work := make(chan struct{}, count)
	for range count {
		work <- struct{}{}
	}
	close(work)
	var mu sync.Mutex
	var errs []error
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for range work {
				if err := onePod(ctx, spec, check); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

func onePod(ctx context.Context, spec node.PodSpec, check func(context.Context, *node.Pod, *node.Container) error) (err error) {
	pod, err := bed.RunPod(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Remove(context.WithoutCancel(ctx))) }()
	container, err := pod.Run(ctx, node.ContainerSpec{})
	if err != nil {
		return err
	}
	return check(ctx, pod, container)
}

// stream runs pods one after another until finish is called, which returns how many there were.
func stream(t *testing.T, parallel int, spec node.PodSpec, check func(context.Context, *node.Pod, *node.Container) error) (finish func() (int, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stop := make(chan struct{})
	var mu sync.Mutex
	var errs []error
	count := 0
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				default:
				}
				err := onePod(ctx, spec, check)
				mu.Lock()
				count++
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	return func() (int, error) {
		close(stop)
		workers.Wait()
		return count, errors.Join(errs...)
	}
}
