// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/bench/rig"
	"github.com/neighpin/neighpin/pkg/record"
)

// gvisor is the runtime's type of pods of gVisor.
const gvisor = "io.containerd.runsc.v1"

// fill makes the pods, has a daemon pin them as they start, and takes their addresses.
func (s *stage) fill(ctx context.Context, _ *figures) error {
	s.env.Say("making %d pods", s.plan.pods)
	for i := range s.plan.pods {
		pod, err := s.bed.pod(i)
		if err != nil {
			return err
		}
		s.pods = append(s.pods, pod)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	s.env.Say("pinning them")
	if err := s.with(ctx, never, s.start(ctx)); err != nil {
		return err
	}
	return s.tell()
}

// start has the pods start, for a daemon.
func (s *stage) start(ctx context.Context) func(*daemon) error {
	return func(d *daemon) error {
		for i, pod := range s.pods {
			word := rig.Sandbox("sandbox-of-"+pod.name, i, "runsc", pod.Path)
			if _, err := s.rt.Run(ctx, word); err != nil {
				return fmt.Errorf("start %s: %w", pod.name, err)
			}
			// A busy machine can have it answer before, when a second has passed.
			if err := await.Within(ctx, patience, "the pins of "+pod.name, pod.pinned); err != nil {
				return err
			}
			if err := pod.take(i); err != nil {
				return err
			}
			s.words = append(s.words, word)
		}
		s.rt.Tell(s.words, nil)
		return await.Within(ctx, patience, "all pods to have started", func() error {
			m, err := d.Metrics(ctx)
			if err == nil && m[started] != float64(len(s.pods)) {
				err = fmt.Errorf("%.0f have", m[started])
			}
			return err
		})
	}
}

// tell writes into the records what a daemon that can ask containerd's sandbox store had known, and checks them.
func (s *stage) tell() error {
	records, err := record.Open(filepath.Join(s.folder, "state"))
	if err != nil {
		return err
	}
	all, err := records.List()
	if err != nil {
		return err
	}
	if len(all) != len(s.pods) {
		return fmt.Errorf("load the records of %d pods: there are %d", len(s.pods), len(all))
	}
	for _, rec := range all {
		if len(rec.Neighbors) != 2 || rec.Timing.Verdict == record.Late {
			return fmt.Errorf("look at the record of %s: %d gateways are pinned and the verdict is %s, want 2 and not late", rec.Name, len(rec.Neighbors), rec.Timing.Verdict)
		}
		rec.Runtime, rec.Taken = gvisor, true
		if err := records.Save(rec); err != nil {
			return err
		}
	}
	return nil
}

// move gives the other end of a pod's link another address.
func (b *bed) move(pod *space) error {
	link, err := b.links.LinkByIndex(pod.outer)
	if err != nil {
		return fmt.Errorf("find the other end of %s: %w", pod.name, err)
	}
	if err := b.links.LinkSetHardwareAddr(link, net.HardwareAddr{2, 0, 0, 0, 0, 9}); err != nil {
		return fmt.Errorf("move the other end of %s: %w", pod.name, err)
	}
	return nil
}
