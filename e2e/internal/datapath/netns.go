// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
)

func openNS(path string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return netns.None(), fmt.Errorf("open namespace %s: %w", path, err)
	}
	return ns, nil
}

// Inside runs fn in the pod's namespace, on a thread that comes back from there.
func (e *Env) Inside(fn func() error) error { return Inside(e.NetNS, fn) }

// Inside runs fn in the namespace at path, on a thread that comes back from there; one that cannot is never used again.
func Inside(path string, fn func() error) (err error) {
	runtime.LockOSThread()
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the thread's own namespace: %w", err)
	}
	defer host.Close()
	ns, err := openNS(path)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	defer func() {
		if back := netns.Set(host); back != nil {
			err = errors.Join(err, fmt.Errorf("return from namespace %s: %w", path, back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// Sysctl writes a setting of the calling thread's network namespace: net.NAME, with slashes.
func Sysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set net/%s: %w", name, err)
	}
	return nil
}

// WithoutDAD switches duplicate address detection off for links that will be made in the pod, as Calico and Cilium have it, so
// that nobody waits a second and a half for it.
func (e *Env) WithoutDAD() error {
	return e.Inside(func() error {
		return errors.Join(Sysctl("ipv6/conf/default/accept_dad", "0"), Sysctl("ipv6/conf/default/dad_transmits", "0"))
	})
}
