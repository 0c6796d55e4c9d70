// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
)

const sysctlRoot = "/proc/sys/net"

// Sysctls are all settings below net of a node and of one pod, by their path below net.
type Sysctls struct {
	Node, Pod map[string]string
}

// ReadSysctls reads the settings of the calling thread's network namespace and of the one at path.
func ReadSysctls(path string) (Sysctls, error) {
	var s Sysctls
	var err error
	if s.Node, err = readSysctls(); err != nil {
		return Sysctls{}, err
	}
	err = Inside(path, func() error {
		s.Pod, err = readSysctls()
		return err
	})
	return s, err
}

func readSysctls() (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(sysctlRoot, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a link went meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			// Some can only be written, some have no value yet: that is a state, too.
			data = []byte("unreadable")
		}
		found[strings.TrimPrefix(path, sysctlRoot+"/")] = strings.TrimSpace(string(data))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the settings of the network: %w", err)
	}
	return found, nil
}

// Changed lists what differs in other: a line each.
func (s Sysctls) Changed(other Sysctls) []string {
	var lines []string
	for _, where := range []struct {
		name          string
		before, after map[string]string
	}{{"node", s.Node, other.Node}, {"pod", s.Pod, other.Pod}} {
		all := maps.Clone(where.before)
		maps.Copy(all, where.after)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			before, was := where.before[name]
			after, is := where.after[name]
			if before != after || was != is {
				lines = append(lines, fmt.Sprintf("%s: %s was %q, is %q", where.name, name, before, after))
			}
		}
	}
	return lines
}

// recordSysctls is the last thing that happens in ADD. neighpin acts in the pod only after that, so whatever is different later is not the
// CNI's doing.
func recordSysctls(e *Env, _ *current.Result) error {
	s, err := ReadSysctls(e.NetNS)
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(parameterDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(sysctlFile(e.PodName), data, 0o644)
}

func sysctlFile(podName string) string {
	return filepath.Join(parameterDir, podName+".sysctls.json")
}

// SysctlsAfterCNI are the settings at the moment when the CNI was done with the pod.
func SysctlsAfterCNI(podName string) (Sysctls, error) {
	var s Sysctls
	data, err := os.ReadFile(sysctlFile(podName))
	if err != nil {
		return Sysctls{}, fmt.Errorf("read the settings of pod %s: %w", podName, err)
	}
	return s, json.Unmarshal(data, &s)
}
