// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/pkg/containerd"
	"github.com/neighpin/neighpin/pkg/netns"
)

// sight tells whether something is so, which may not be visible.
type sight int

const (
	unseen sight = iota
	yes
	no
)

// facts are everything that is looked at, before it is judged.
type facts struct {
	opts Options

	release   string
	cookieErr error

	capabilities uint64
	capErr       error

	dirs       []directory
	stateErr   error
	sockets    []string // paths of unix sockets that somebody listens on, in this network namespace
	socketsErr error

	node      containerd.Node
	nodeErr   error
	sameMount sight // this process sees the mounts that containerd sees
	nriErr    error // of looking at NRI's socket

	link linkPolicy
}

// directory is one in which namespaces appear.
type directory struct {
	path     string
	err      error
	receives sight // mounts made elsewhere appear in it
	holds    int   // namespaces in it
}

func gather(ctx context.Context, opts Options) facts {
	f := facts{opts: opts}
	f.release = kernelRelease()
	if ns, err := netns.Self(); err != nil {
		f.cookieErr = err
	} else {
		_ = ns.Close()
	}
	f.capabilities, f.capErr = effectiveCapabilities()
	f.stateErr = writable(opts.StateDir)
	f.sockets, f.socketsErr = listeningSockets("/proc/self/net/unix")
	if opts.Runtime != nil {
		f.node, f.nodeErr = opts.Runtime.Node(ctx)
	}
	f.sameMount = sameMounts(f.node)
	_, f.nriErr = os.Stat(opts.NRISocket)
	mounts, _ := readMounts("/proc/self/mountinfo") // without it nothing is known of what will appear
	for _, path := range opts.NetNSDirs {
		f.dirs = append(f.dirs, lookAtDirectory(path, mounts))
	}
	f.link = readLinkPolicy(filepath.Join("/", opts.Root))
	return f
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// effectiveCapabilities reads CapEff of proc(5).
func effectiveCapabilities() (uint64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, fmt.Errorf("find CapEff in /proc/self/status: no such line")
}

// writable tells whether files can be made in a directory, which may be missing.
func writable(dir string) error {
	err := unix.Access(dir, unix.W_OK|unix.X_OK)
	if err == unix.ENOENT {
		return unix.Access(filepath.Dir(dir), unix.W_OK|unix.X_OK)
	}
	return err
}

// acceptsConnections is __SO_ACCEPTCON (include/linux/net.h) in the flags column.
const acceptsConnections = 1 << 16

// listeningSockets reads proc(5)'s list of unix sockets, of the network namespace
// of this process: number, references, protocol, flags, type, state, inode, path.
func listeningSockets(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var paths []string
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 8 {
			continue
		}
		if flags, err := strconv.ParseUint(fields[3], 16, 32); err == nil && flags&acceptsConnections != 0 {
			paths = append(paths, strings.Join(fields[7:], " "))
		}
	}
	return paths, scanner.Err()
}

// listens tells whether somebody listens on a socket. Its folder may be mounted
// elsewhere in a container, so the last two names count.
func (f facts) listens(socket string) bool {
	tail := func(path string) string { return filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)) }
	for _, path := range f.sockets {
		if tail(path) == tail(socket) {
			return true
		}
	}
	return false
}

// sameMounts tells whether this process is in containerd's mount namespace. Where
// the two do not share their process ids they share nothing.
func sameMounts(node containerd.Node) sight {
	if node.PID == 0 || node.PIDNS == 0 {
		return unseen
	}
	own, err := inode("/proc/self/ns/pid")
	if err != nil {
		return unseen
	}
	if own != node.PIDNS {
		return no
	}
	theirs, err := inode(fmt.Sprintf("/proc/%d/ns/mnt", node.PID))
	if err != nil {
		return unseen
	}
	if own, err = inode("/proc/self/ns/mnt"); err != nil {
		return unseen
	}
	if own == theirs {
		return yes
	}
	return no
}

func inode(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}
