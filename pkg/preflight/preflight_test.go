// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
	"github.com/neighpin/neighpin/pkg/containerd"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// fine are the facts of a node on which everything is as it should be, as they were
// seen in a DaemonSet's container on containerd 2.4.
func fine() facts {
	return facts{
		opts: Options{NetNSDirs: []string{"/var/run/netns"}, StateDir: "/run/neighpin", NRISocket: "/var/run/nri/nri.sock",
			ContainerdSocket: "/run/containerd/containerd.sock", Runtime: &containerd.Store{}, Annotation: "io.neighpin.neighbors",
			Selects: func(handler, runtimeType string) bool {
				return handler == "runsc" || strings.Contains(runtimeType, "kata")
			},
			Daemon: &Daemon{Connected: true, RequestTimeout: 2 * time.Second}},
		release: "6.18.5", capabilities: 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BROADCAST,
		dirs:    []directory{{path: "/var/run/netns", receives: yes, holds: 3}},
		sockets: []string{"/run/containerd/containerd.sock", "/run/nri/nri.sock"}, sameMount: no,
		node: containerd.Node{Version: "2.4.2", PID: 1, PIDNS: 1, CRI: true, DefaultRuntime: "runc", CNIStatus: "OK", CNI: []string{"ptp"},
			Runtimes: []containerd.Runtime{{Name: "runc", Type: "io.containerd.runc.v2"}, {Name: "runsc", Type: "io.containerd.runsc.v1"}}},
		link: linkPolicy{seen: true, file: "/etc/systemd/network/10-veth.link", policy: "none"},
	}
}

func judge(f facts) map[string]Item {
	items := map[string]Item{}
	for _, item := range judged(f) {
		items[item.Name] = item
	}
	return items
}

func TestAGoodNodeIsGood(t *testing.T) {
	for name, item := range judge(fine()) {
		if item.Status != OK || item.Found == "" || item.Do != "" {
			t.Errorf("%s: %+v", name, item)
		}
	}
}

// Each is one thing that is wrong on a node that is good otherwise.
func TestEachFaultIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*facts)
		item   string
		want   Status
		say    string
	}{
		"old kernel":            {func(f *facts) { f.release, f.cookieErr = "5.10.0", errors.New("no cookie") }, "kernel", Failed, "5.14"},
		"kernel, observed":      {func(f *facts) { f.release, f.opts.Observe = "6.1.0", true }, "kernel", Warning, "6.6"},
		"no rights":             {func(f *facts) { f.capabilities = 1 << unix.CAP_NET_ADMIN }, "capabilities", Failed, "SYS_ADMIN"},
		"deaf":                  {func(f *facts) { f.capabilities &^= 1 << unix.CAP_NET_BROADCAST }, "capabilities", Warning, "not heard"},
		"no raw sockets":        {func(f *facts) { f.opts.Learn = true }, "capabilities", Warning, "NET_RAW"},
		"state is read-only":    {func(f *facts) { f.stateErr = unix.EROFS }, "state directory", Warning, "restart"},
		"mounted without":       {func(f *facts) { f.dirs[0].receives = no }, "namespaces in /var/run/netns", Failed, "HostToContainer"},
		"not mounted":           {func(f *facts) { f.dirs[0].err = fs.ErrNotExist }, "namespaces in /var/run/netns", Failed, "Mount /var/run/netns"},
		"no pod yet":            {func(f *facts) { f.dirs[0].err, f.sameMount = fs.ErrNotExist, yes }, "namespaces in /var/run/netns", OK, "first pod"},
		"private, and alone":    {func(f *facts) { f.dirs[0].receives, f.sameMount = no, yes }, "namespaces in /var/run/netns", OK, "appear"},
		"cannot be told":        {func(f *facts) { f.dirs[0].receives, f.sameMount = no, unseen }, "namespaces in /var/run/netns", Unknown, "cannot be seen"},
		"somewhere else":        {func(f *facts) { f.node.NetNSDir = "/run/c/netns" }, "namespaces in /run/c/netns", Failed, "netnsDirs"},
		"no containerd":         {func(f *facts) { f.node, f.nodeErr = containerd.Node{}, errors.New("nobody") }, "containerd", Failed, "k3s"},
		"no socket is wanted":   {func(f *facts) { f.opts.Runtime, f.node = nil, containerd.Node{} }, "containerd", Warning, "early path"},
		"no CRI":                {func(f *facts) { f.node.CRI = false }, "containerd", Warning, "CRI plugin"},
		"another network":       {func(f *facts) { f.sockets = nil }, "host's network", Unknown, "hostNetwork: true"},
		"1.6":                   {func(f *facts) { f.node.Version = "1.6.20" }, "timing", Failed, "Upgrade"},
		"1.7":                   {func(f *facts) { f.node.Version = "1.7.35+unknown" }, "timing", OK, "Kata are not served"},
		"enforce on 2.1":        {func(f *facts) { f.node.Version, f.opts.Enforce = "2.1.9", true }, "timing", OK, "refuses containers"},
		"newer than known":      {func(f *facts) { f.node.Version = "2.9.0" }, "timing", Warning, "newer"},
		"NRI is off":            {func(f *facts) { f.nriErr, f.opts.Daemon = fs.ErrNotExist, nil }, "NRI", Failed, "disable = false"},
		"NRI was on":            {func(f *facts) { f.sockets, f.opts.Daemon = f.sockets[:1], nil }, "NRI", Failed, "left behind"},
		"NRI, no daemon":        {func(f *facts) { f.opts.Daemon = nil }, "NRI", OK, "somebody listens"},
		"NRI, not connected":    {func(f *facts) { f.opts.Daemon = &Daemon{Error: "refused"} }, "NRI", Warning, "refused"},
		"NRI, cannot be seen":   {func(f *facts) { f.sockets, f.opts.Daemon = nil, nil }, "NRI", Unknown, "cannot be seen"},
		"impatient NRI":         {func(f *facts) { f.opts.Daemon.RequestTimeout = time.Second }, "NRI's request timeout", Warning, "plugin_request_timeout"},
		"nobody was told":       {func(f *facts) { f.opts.Daemon = nil }, "NRI's request timeout", Unknown, "no daemon"},
		"enforce, alone":        {func(f *facts) { f.opts.Enforce = true }, "NRI's validator", Unknown, "default_validator"},
		"enforce, no validator": {func(f *facts) { f.opts.Enforce, f.node.Version = true, "2.0.1" }, "NRI's validator", Warning, "has none"},
		"nothing is selected":   {func(f *facts) { f.node.Runtimes = f.node.Runtimes[:1] }, "handlers", Warning, "runc"},
		"Kata on 1.7": {func(f *facts) {
			f.node.Version, f.node.Runtimes = "1.7.1", []containerd.Runtime{{Name: "k", Type: "io.containerd.kata.v2"}}
		}, "handlers", Warning, "not served"},
		"pods bring our key":  {func(f *facts) { f.node.Runtimes[1].PodAnnotations = []string{"dev.gvisor.*", "io.neighpin.*"} }, "pod_annotations", Warning, "runsc"},
		"others' keys":        {func(f *facts) { f.node.Runtimes[1].PodAnnotations = []string{"dev.gvisor.*"} }, "pod_annotations", OK, "no runtime"},
		"not mounted, alone":  {func(f *facts) { f.dirs[0].err, f.sameMount = fs.ErrNotExist, unseen }, "namespaces in /var/run/netns", Failed, "does not exist here"},
		"no list of mounts":   {func(f *facts) { f.dirs[0].receives = unseen }, "namespaces in /var/run/netns", Unknown, "cannot be seen"},
		"no list of sockets":  {func(f *facts) { f.socketsErr = errors.New("no proc") }, "host's network", Unknown, "which network"},
		"no answer":           {func(f *facts) { f.node.Version = "" }, "host's network", Unknown, "which network"},
		"NRI, no list":        {func(f *facts) { f.socketsErr, f.opts.Daemon = errors.New("no proc"), nil }, "NRI", Unknown, "cannot be seen"},
		"last before NRI":     {func(f *facts) { f.node.Version = "1.6.99" }, "timing", Failed, "Upgrade"},
		"first with NRI":      {func(f *facts) { f.node.Version = "1.7.0" }, "timing", OK, "1.7 asks"},
		"first 2.x":           {func(f *facts) { f.node.Version = "2.0.0" }, "timing", OK, "containerd 2.x"},
		"last that was tried": {func(f *facts) { f.node.Version = "2.4.99" }, "timing", OK, "containerd 2.x"},
		"first that was not":  {func(f *facts) { f.node.Version = "2.5.0" }, "timing", Warning, "newer"},
		"daemon of before":    {func(f *facts) { f.opts.Daemon.RequestTimeout = 0 }, "NRI's request timeout", Unknown, "was not told"},
		"just patient enough": {func(f *facts) { f.opts.Daemon.RequestTimeout = 1500 * time.Millisecond }, "NRI's request timeout", OK, "1.5s"},
		"last, no validator":  {func(f *facts) { f.opts.Enforce, f.node.Version = true, "2.1.99" }, "NRI's validator", Warning, "has none"},
		"first validator":     {func(f *facts) { f.opts.Enforce, f.node.Version = true, "2.2.0" }, "NRI's validator", Unknown, "default_validator"},
		"runc on 1.7":         {func(f *facts) { f.node.Version = "1.7.1" }, "handlers", OK, "selected: runsc"},
		"Kata on 2.0": {func(f *facts) {
			f.node.Version, f.node.Runtimes = "2.0.0", []containerd.Runtime{{Name: "k", Type: "io.containerd.kata.v2"}}
		}, "handlers", OK, "selected: k"},
		"Kata on something": {func(f *facts) {
			f.node.Version, f.node.Runtimes = "main", []containerd.Runtime{{Name: "k", Type: "io.containerd.kata.v2"}}
		}, "handlers", OK, "selected: k"},
		"CNI without CRI":     {func(f *facts) { f.node.CRI = false }, "CNI", Unknown, "not asked"},
		"no word on CNI":      {func(f *facts) { f.node.CNIStatus = "" }, "CNI", OK, "ptp"},
		"no CNI":              {func(f *facts) { f.node.CNIStatus = "no network config found" }, "CNI", Warning, "Install"},
		"macvlan":             {func(f *facts) { f.node.CNI = []string{"macvlan"} }, "CNI", Warning, "learned: probe"},
		"udev":                {func(f *facts) { f.link.policy = "persistent" }, "udev's MAC policy", Warning, "MACAddressPolicy=none"},
		"rights are hidden":   {func(f *facts) { f.capErr = errors.New("no proc") }, "capabilities", Unknown, "no proc"},
		"no rights, observed": {func(f *facts) { f.opts.Observe, f.capabilities = true, f.capabilities&^(1<<unix.CAP_SYS_ADMIN) }, "capabilities", Failed, "SYS_ADMIN"},
		"observed":            {func(f *facts) { f.opts.Observe = true }, "capabilities", OK, "SYS_ADMIN"},
		"a folder refuses":    {func(f *facts) { f.dirs[0].err = unix.EACCES }, "namespaces in /var/run/netns", Failed, "permission denied"},
		"watched elsewhere":   {func(f *facts) { f.node.NetNSDir = "/run/c/netns/" }, "namespaces in /run/c/netns/", Failed, "netnsDirs"},
		"NRI is not ours":     {func(f *facts) { f.nriErr, f.opts.Daemon = unix.EACCES, nil }, "NRI", Unknown, "permission denied"},
		"enforce, unknown":    {func(f *facts) { f.opts.Enforce, f.node.Version = true, "" }, "NRI's validator", Unknown, "not known"},
		"default runtime":     {func(f *facts) { f.opts.Selects = func(handler, _ string) bool { return handler == "" } }, "handlers", OK, "the default runtime (runc)"},
		"CNI is not told of":  {func(f *facts) { f.node.CNI = nil }, "CNI", Unknown, "does not say"},
		"udev, nothing":       {func(f *facts) { f.link.file, f.link.policy = "", "" }, "udev's MAC policy", OK, "no link file"},
		"udev, random":        {func(f *facts) { f.link.policy = "random" }, "udev's MAC policy", Warning, "MACAddressPolicy=none"},
		"udev, in the image":  {func(f *facts) { f.link = linkPolicy{} }, "udev's MAC policy", Unknown, "not visible"},
	} {
		f := fine()
		c.change(&f)
		item, ok := judge(f)[c.item]
		if !ok || item.Status != c.want || !strings.Contains(item.Found+item.Do, c.say) {
			t.Errorf("%s: %+v, want %s and %q", name, item, c.want, c.say)
		}
	}
}

// A right is one bit: all others together do not stand in for it.
func TestNoOtherRightStandsInForOneThatIsMissing(t *testing.T) {
	for right, want := range map[int]Status{
		unix.CAP_SYS_ADMIN: Failed, unix.CAP_NET_ADMIN: Failed, unix.CAP_NET_BROADCAST: Warning, unix.CAP_NET_RAW: Warning,
		unix.CAP_BPF: OK, // SYS_ADMIN has it, too
	} {
		f := fine()
		f.opts.Learn, f.opts.Observe, f.capabilities = true, true, ^uint64(0)&^(1<<right)
		if item := judge(f)["capabilities"]; item.Status != want {
			t.Errorf("without %d: %+v, want %s", right, item, want)
		}
	}
}

// What is said of a release is said where it matters only.
func TestWhatAReleaseLacksIsSaidToWhoWantsIt(t *testing.T) {
	for _, c := range []struct {
		observe, enforce bool
		kernel, runtime  string
		says             bool
	}{
		{observe: true, kernel: "6.1.0", runtime: "2.4.2", says: true},
		{kernel: "6.1.0", runtime: "2.4.2"},
		{observe: true, kernel: "6.6.0", runtime: "2.4.2"},
		{observe: true, kernel: "unknown", runtime: "2.4.2"},
		{enforce: true, kernel: "6.18.0", runtime: "2.1.9", says: true},
		{kernel: "6.18.0", runtime: "2.1.9"},
		{enforce: true, kernel: "6.18.0", runtime: "2.4.2"},
	} {
		f := fine()
		f.opts.Observe, f.opts.Enforce, f.release, f.node.Version = c.observe, c.enforce, c.kernel, c.runtime
		items := judge(f)
		said := items["kernel"].Status == Warning || strings.Contains(items["timing"].Found, "refuses containers")
		if said != c.says {
			t.Errorf("%+v: %+v, %+v", c, items["kernel"], items["timing"])
		}
	}
}

// What is mounted below hides nothing from us that the kernel sees: a folder that
// somebody has mounted over belongs to the mount on top.
func TestTheMountOfAFolderIsTheOneOnTop(t *testing.T) {
	found := parseMounts("21 1 0:20 / / rw - overlay overlay rw\n36 21 0:30 / /run rw,nosuid shared:7 - tmpfs tmpfs rw\n" +
		"40 36 0:30 /netns /run/with\\040blank rw master:9 - tmpfs tmpfs rw\n" + "nonsense\n")
	if len(found) != 3 || found[21].receives || !found[36].receives || !found[40].receives {
		t.Errorf("%+v", found)
	}
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	tmpfs := func(path string, propagation uintptr) {
		t.Helper()
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", path, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
		if err := unix.Mount("", path, "", propagation, ""); err != nil {
			t.Fatal(err)
		}
	}
	look := func() sight {
		t.Helper()
		all, err := readMounts("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return lookAtDirectory(below, all).receives
	}
	tmpfs(below, unix.MS_PRIVATE)
	if got := look(); got != no {
		t.Errorf("on a private mount: %d", got)
	}
	tmpfs(dir, unix.MS_SHARED)
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != yes {
		t.Errorf("on a shared one that hides it: %d", got)
	}
}

func TestReleasesAreRead(t *testing.T) {
	for text, want := range map[string]release{"2.4.2+unknown": {2, 4, 2}, "v1.7.35": {1, 7, 35}, "2.3.0-rc.1": {2, 3, 0}, "6.18": {6, 18, 0}} {
		if got, ok := parseRelease(text); !ok || got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, text := range []string{"", "x", "2", "main", "a.b.c"} {
		if got, ok := parseRelease(text); ok {
			t.Errorf("%q: %v", text, got)
		}
	}
	for text, want := range map[string]bool{"1.7.35": false, "2.1.9": false, "2.2.5": false, "2.2.6": true, "2.2.7": true, "2.3.0": false, "2.3.2": false, "2.3.3": true, "2.4.0": true, "3.0.0": true,
		"1.2.9": false, "1.3.9": false, "3.2.0": true, "3.3.0": true} {
		if r, _ := parseRelease(text); r.refusesSandboxes() != want {
			t.Errorf("%s refuses sandboxes: %t", text, !want)
		}
	}
}

func TestTheFirstLinkFileThatMatchesDecides(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p := readLinkPolicy(root); p.seen {
		t.Errorf("nothing there: %+v", p)
	}
	for _, condition := range []string{"Driver=veth", "Kind=veth", "Type=ether", "Driver=e1000 veth"} {
		if policy, ok := policyForVeth("[Match]\n" + condition + "\n[Link]\nMACAddressPolicy=random\n"); !ok || policy != "random" {
			t.Errorf("%s: %q, %t", condition, policy, ok)
		}
	}
	for _, condition := range []string{"Driver=ether", "Kind=vlan", "Type=veth", "Path=pci-*"} {
		if policy, ok := policyForVeth("[Match]\n" + condition + "\n[Link]\nMACAddressPolicy=random\n"); ok {
			t.Errorf("%s, which no veth has: %q", condition, policy)
		}
	}
	write("usr/lib/systemd/network/99-default.link", "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=keep\nMACAddressPolicy=persistent\n")
	write("etc/systemd/network/10-eth.link", "[Match]\nOriginalName=enp*\n[Link]\nMACAddressPolicy=none\n")
	if p := readLinkPolicy(root); p.policy != "persistent" {
		t.Errorf("the distribution's: %+v", p)
	}
	write("etc/systemd/network/20-veth.link", "# ours\n[Match]\nDriver=veth\n[Link]\nMACAddressPolicy=none\n")
	if p := readLinkPolicy(root); p.policy != "none" || filepath.Base(p.file) != "20-veth.link" {
		t.Errorf("with one for veth: %+v", p)
	}
	write("etc/systemd/network/99-default.link", "[Match]\nOriginalName=*\n")
	if err := os.Remove(filepath.Join(root, "etc/systemd/network/20-veth.link")); err != nil {
		t.Fatal(err)
	}
	if p := readLinkPolicy(root); p.policy != "" || p.file == "" {
		t.Errorf("overridden in /etc: %+v", p)
	}
}

// silent is a containerd that does not answer.
type silent struct{}

func (silent) Node(ctx context.Context) (containerd.Node, error) {
	<-ctx.Done()
	return containerd.Node{}, ctx.Err()
}

// On this machine, as root: what is seen is seen, and a containerd that hangs ends
// with the context.
func TestARealNodeWithoutAnAnswer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri", "nri.sock")
	if err := os.Mkdir(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	opts := fine().opts
	opts.Runtime, opts.Daemon, opts.NRISocket, opts.StateDir, opts.Root = silent{}, nil, socket, t.TempDir(), t.TempDir()
	opts.NetNSDirs = []string{t.TempDir()}
	items := map[string]Item{}
	for _, item := range Run(ctx, opts).Items {
		items[item.Name] = item
	}
	for name, want := range map[string]Status{"kernel": OK, "capabilities": OK, "state directory": OK, "containerd": Failed, "NRI": OK, "timing": Unknown, "handlers": Unknown, "udev's MAC policy": Unknown} {
		if items[name].Status != want {
			t.Errorf("%s: %+v, want %s", name, items[name], want)
		}
	}
	if found := items["containerd"].Found; !strings.Contains(found, context.DeadlineExceeded.Error()) {
		t.Errorf("containerd was not asked: %s", found)
	}
	// A connection goes on under the name of the socket that it was made by, and listens to nobody else.
	near, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	f := fine()
	if f.sockets, f.socketsErr = listeningSockets("/proc/self/net/unix"); f.socketsErr != nil || f.listens(socket) {
		t.Errorf("a socket that was closed is listened on: %v", f.socketsErr)
	}
}
