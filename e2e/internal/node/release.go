// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ChangeRelease stops containerd and starts another release of it on the same folders, as an upgrade in place does, or a
// downgrade. Pods stay up. The release is one of Programs.Containerds.
func (n *Node) ChangeRelease(ctx context.Context, release string) error {
	if err := n.StopContainerd(ctx); err != nil {
		return err
	}
	if err := n.use(release); err != nil {
		return err
	}
	return n.StartContainerd(ctx)
}

func (n *Node) use(release string) error {
	folder, ok := n.programs.Containerds[release]
	if !ok {
		return fmt.Errorf("find containerd %s: it was not built, see setup.Programs.BuildReleases", release)
	}
	n.programs.Release, n.programs.Containerd = release, folder
	return nil
}

// StartAnew stops containerd, puts its folders aside and starts that release on empty ones, with the images in it. What it
// returns removes all pods and goes back to what was there. The node must have no pods.
func (n *Node) StartAnew(ctx context.Context, release string) (back func(context.Context) error, err error) {
	before := n.programs
	if err := n.StopContainerd(ctx); err != nil {
		return nil, err
	}
	folders := []string{filepath.Join(dir, "root"), filepath.Join(dir, "state")}
	for _, folder := range folders {
		if err := os.Rename(folder, folder+".aside"); err != nil {
			return nil, fmt.Errorf("put containerd's folders aside: %w", err)
		}
	}
	back = func(ctx context.Context) error {
		var errs []error
		if n.runtime != nil {
			errs = append(errs, n.RemoveAllPods(ctx))
		}
		errs = append(errs, n.StopContainerd(ctx))
		for _, folder := range folders {
			errs = append(errs, os.RemoveAll(folder), os.Rename(folder+".aside", folder))
		}
		n.programs = before
		return errors.Join(append(errs, n.StartContainerd(ctx))...)
	}
	if err := n.anew(ctx, release); err != nil {
		return nil, errors.Join(err, back(ctx))
	}
	return back, nil
}

func (n *Node) anew(ctx context.Context, release string) error {
	if err := n.use(release); err != nil {
		return err
	}
	if err := n.StartContainerd(ctx); err != nil {
		return err
	}
	return n.importImages(ctx)
}
