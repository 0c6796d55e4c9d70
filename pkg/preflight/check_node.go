// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkKernel: only SO_NETNS_COOKIE tells what a namespace is.
func checkKernel(f facts) []Item {
	if f.cookieErr != nil {
		return one("kernel", Failed, fmt.Sprintf("Linux %s: %v", f.release, f.cookieErr), "Run Linux 5.14 or newer on the node; there is no way around it.")
	}
	if r, ok := parseRelease(f.release); f.opts.Observe && ok && !r.atLeast(release{6, 6, 0}) {
		return one("kernel", Warning, fmt.Sprintf("Linux %s tells namespaces apart, and cannot count what pods ask for", f.release), "Run Linux 6.6 or newer, or turn observe off.")
	}
	return one("kernel", OK, fmt.Sprintf("Linux %s, which tells namespaces apart by their cookies", f.release), "")
}

// checkCapabilities looks at the rights of this process, which are the daemon's when
// it runs in the daemon's container.
func checkCapabilities(f facts) []Item {
	const name = "capabilities"
	if f.capErr != nil {
		return one(name, Unknown, f.capErr.Error(), "")
	}
	has := func(capability int) bool { return f.capabilities&(1<<capability) != 0 }
	var missing, wanted, names []string
	for _, c := range []struct {
		number   int
		name     string
		needed   bool
		must     bool
		whatElse string
	}{
		{number: unix.CAP_SYS_ADMIN, name: "SYS_ADMIN", needed: true, must: true}, // with which BPF is allowed, too
		{number: unix.CAP_NET_ADMIN, name: "NET_ADMIN", needed: true, must: true},
		{number: unix.CAP_NET_BROADCAST, name: "NET_BROADCAST", needed: true, whatElse: "changes of the host's links are not heard"},
		{number: unix.CAP_NET_RAW, name: "NET_RAW", needed: f.opts.Learn, whatElse: "routers cannot be asked for (learned: probe)"},
	} {
		switch {
		case !c.needed:
		case has(c.number):
			names = append(names, c.name)
		case c.must:
			missing = append(missing, c.name)
		default:
			wanted = append(wanted, fmt.Sprintf("without %s %s", c.name, c.whatElse))
		}
	}
	switch {
	case len(missing) > 0:
		return one(name, Failed, "this process lacks "+strings.Join(missing, ", "), "Run it as root, and in a container add the capabilities SYS_ADMIN, NET_ADMIN and NET_BROADCAST.")
	case len(wanted) > 0:
		return one(name, Warning, strings.Join(wanted, "; "), "Add the capability to the container.")
	}
	return one(name, OK, strings.Join(names, ", "), "")
}

func checkStateDir(f facts) []Item {
	if f.stateErr != nil {
		return one("state directory", Warning, fmt.Sprintf("%s cannot be written to: %v", f.opts.StateDir, f.stateErr),
			"Mount a folder of the node there that root can write to; without records a restart forgets what is pinned.")
	}
	return one("state directory", OK, f.opts.StateDir+" can be written to", "")
}

// checkNetNSDirs: a namespace is a mount, which has to appear here after this
// process's own mounts were made.
func checkNetNSDirs(f facts) []Item {
	const mountIt = "Mount %s of the node into the container at the same path, with mountPropagation: HostToContainer."
	var items []Item
	for _, d := range f.dirs {
		item := Item{Name: "namespaces in " + d.path}
		appear := f.sameMount == yes || d.receives == yes
		switch {
		case errors.Is(d.err, fs.ErrNotExist) && f.sameMount == yes:
			item.Status, item.Found = OK, "it does not exist yet; the first pod with a network of its own makes it"
		case errors.Is(d.err, fs.ErrNotExist):
			item.Status, item.Found, item.Do = Failed, "it does not exist here", fmt.Sprintf(mountIt, d.path)
		case d.err != nil:
			item.Status, item.Found, item.Do = Failed, d.err.Error(), fmt.Sprintf(mountIt, d.path)
		case appear:
			item.Status, item.Found = OK, fmt.Sprintf("%d are there, and new ones appear", d.holds)
		case f.sameMount == no && d.receives == no:
			item.Status, item.Found, item.Do = Failed, "its mount is private: namespaces that are made from now on do not appear here", fmt.Sprintf(mountIt, d.path)
		default:
			item.Status, item.Found = Unknown, fmt.Sprintf("%d are there; whether new ones appear cannot be seen without containerd's answer", d.holds)
		}
		items = append(items, item)
	}
	if dir := f.node.NetNSDir; dir != "" && !f.watches(dir) {
		items = append(items, Item{Name: "namespaces in " + dir, Status: Failed,
			Found: "containerd mounts them there (netns_mounts_under_state_dir), and netnsDirs does not name it",
			Do:    fmt.Sprintf("Add %s to netnsDirs, and mount it into the container.", dir)})
	}
	return items
}

func (f facts) watches(dir string) bool {
	for _, d := range f.opts.NetNSDirs {
		if filepath.Clean(d) == filepath.Clean(dir) {
			return true
		}
	}
	return false
}

// checkUdev: with the policy "persistent" udev gives a link another address right
// after it was made, unless whoever made it named one.
func checkUdev(f facts) []Item {
	const name = "udev's MAC policy"
	switch policy := f.link.policy; {
	case !f.link.seen:
		return one(name, Unknown, "the node's link files are not visible here", "On the node, look at MACAddressPolicy in /usr/lib/systemd/network/99-default.link.")
	case policy == "persistent" || policy == "random":
		return one(name, Warning, fmt.Sprintf("%s has MACAddressPolicy=%s for links such as CNI's: the host's end of a pod's link may get another address just after it was made, and a pin follows only where no runtime has copied it", f.link.file, policy),
			"Put a file that sorts before it into /etc/systemd/network, with Driver=veth in [Match] and MACAddressPolicy=none in [Link].")
	case f.link.file == "":
		return one(name, OK, "no link file of the node is for links such as CNI's", "")
	}
	return one(name, OK, fmt.Sprintf("%s leaves the addresses of CNI's links alone", f.link.file), "")
}
