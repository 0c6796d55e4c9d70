// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"path/filepath"
	"runtime"
)

// KeepCoresBusy runs a process per core that does nothing but compute, until stop is called. stop returns an
// error if one of them ended earlier, since then the load was not what it should have been.
func (n *Node) KeepCoresBusy() (stop func() error, err error) {
	var spinners []*process
	stop = func() error {
		var ended error
		for _, s := range spinners {
			if err := s.running(); err != nil {
				ended = err
			}
			s.kill()
		}
		return ended
	}
	for i := range runtime.NumCPU() {
		name := fmt.Sprintf("spin-%d", i)
		s, err := startProcess(name, filepath.Join(n.LogDir(), name+".log"), []string{"GOMAXPROCS=1"}, filepath.Join(n.programs.Own, "workload"), "spin")
		if err != nil {
			_ = stop()
			return nil, err
		}
		spinners = append(spinners, s)
	}
	return stop, nil
}
