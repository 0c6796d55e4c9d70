// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/internal/nstest"
)

func TestWhatIsAQuestion(t *testing.T) {
	zero4, zero6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	tagged := func(protocol uint16, payload []byte) []byte {
		return ether(unix.ETH_P_8021Q, append([]byte{0, 7, byte(protocol >> 8), byte(protocol)}, payload...))
	}
	for name, c := range map[string]struct {
		frame            []byte
		gateways, others uint64
	}{
		"ARP for the gateway":               {ether(unix.ETH_P_ARP, arp(1, self4, gateway4)), 1, 0},
		"ARP for another":                   {ether(unix.ETH_P_ARP, arp(1, self4, other4)), 0, 1},
		"ARP for one that is asked by us":   {ether(unix.ETH_P_ARP, arp(1, self4, learned4)), 0, 0},
		"ARP for the gateway, tagged":       {tagged(unix.ETH_P_ARP, arp(1, self4, gateway4)), 1, 0},
		"an ARP answer":                     {ether(unix.ETH_P_ARP, arp(2, self4, gateway4)), 0, 0},
		"an announcement":                   {ether(unix.ETH_P_ARP, arp(1, self4, self4)), 0, 0},
		"an ARP probe":                      {ether(unix.ETH_P_ARP, arp(1, zero4, self4)), 0, 0},
		"half an ARP request":               {ether(unix.ETH_P_ARP, arp(1, self4, gateway4)[:20]), 0, 0},
		"ARP of another hardware":           {ether(unix.ETH_P_ARP, append([]byte{0, 6}, arp(1, self4, gateway4)[2:]...)), 0, 0},
		"ARP with longer addresses":         {ether(unix.ETH_P_ARP, append([]byte{0, 1, 8, 0, 8, 4}, arp(1, self4, gateway4)[6:]...)), 0, 0},
		"a solicitation of the gateway":     {ether(unix.ETH_P_IPV6, nd(135, self6, gateway6)), 1, 0},
		"a solicitation of another":         {ether(unix.ETH_P_IPV6, nd(135, self6, other6)), 0, 1},
		"a solicitation, tagged":            {tagged(unix.ETH_P_IPV6, nd(135, self6, gateway6)), 1, 0},
		"detection of duplicate addresses":  {ether(unix.ETH_P_IPV6, nd(135, zero6, self6)), 0, 0},
		"an advertisement":                  {ether(unix.ETH_P_IPV6, nd(136, self6, gateway6)), 0, 0},
		"a router solicitation":             {ether(unix.ETH_P_IPV6, nd(133, self6, gateway6)), 0, 0},
		"half a solicitation":               {ether(unix.ETH_P_IPV6, nd(135, self6, gateway6)[:60]), 0, 0},
		"a solicitation from afar":          {ether(unix.ETH_P_IPV6, append([]byte{0x60, 0, 0, 0, 0, 24, 58, 64}, nd(135, self6, gateway6)[8:]...)), 0, 0},
		"IPv4, with the bytes of a request": {ether(unix.ETH_P_IP, arp(1, self4, gateway4)), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := connect(t, "obs0")
			o := observer(t)
			b.observe(o, "a")
			b.send(c.frame)
			b.send(ether(unix.ETH_P_ARP, arp(1, self4, other4))) // so that waiting for nothing ends
			want(t, o, "a", c.gateways, c.others+1)
			if got := o.Totals(); got != (Counts{c.gateways, c.others + 1}) {
				t.Errorf("total %+v", got)
			}
		})
	}
}

// The kernel's own questions: none while the gateway is pinned, and counted when it
// is not any more.
func TestAPinnedGatewayIsNotAskedFor(t *testing.T) {
	b := connect(t, "obs0")
	b.host.IP("addr add 10.77.0.1/24 dev obs0")
	b.pod.IP("addr add 10.77.0.2/24 dev eth0", "neigh add 10.77.0.1 lladdr "+b.host.MAC("obs0")+" dev eth0 nud permanent")
	o := observer(t)
	b.observe(o, "a")
	_, _, since := o.Observed("a")
	if since.IsZero() || time.Since(since) > time.Minute {
		t.Errorf("observed since %v", since)
	}
	talk := func(dst string) {
		if err := b.pod.Do(func() error {
			c, err := net.Dial("udp", net.JoinHostPort(dst, "9"))
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("x"))
			return errors.Join(err, c.Close())
		}); err != nil {
			t.Error(err)
		}
	}
	talk("10.77.0.1")
	want(t, o, "a", 0, 0)
	talk(other4.String())
	nstest.Eventually(t, "the question for an address that nobody has to be counted", func() bool {
		gateways, others, _ := o.Observed("a")
		return others > 0 && gateways == 0
	})
	b.pod.IP("neigh del 10.77.0.1 dev eth0")
	talk("10.77.0.1")
	nstest.Eventually(t, "the question for the gateway to be counted", func() bool {
		gateways, _, _ := o.Observed("a")
		return gateways > 0
	})
}

func TestTwoSandboxesAreToldApart(t *testing.T) {
	a, b := connect(t, "obs0"), connect(t, "obs1")
	o := observer(t)
	a.observe(o, "a")
	b.observe(o, "b")
	ask := ether(unix.ETH_P_ARP, arp(1, self4, gateway4))
	a.send(ask)
	b.send(ask, ask)
	want(t, o, "a", 1, 0)
	want(t, o, "b", 2, 0)
	o.Forget("a")
	a.send(ask)
	b.send(ask)
	want(t, o, "b", 3, 0)
	want(t, o, "a", 0, 0)
	if len(programs(t, a.end)) != 0 {
		t.Error("a program is left at the link of a sandbox that was forgotten")
	}
	if got := o.Totals(); got != (Counts{4, 0}) {
		t.Errorf("total %+v, want what was counted for the forgotten as well", got)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if len(programs(t, b.end)) != 0 {
		t.Error("a program is left after Close")
	}
	if err := o.Observe("b", ends(b.end), b.leads); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("observe after Close: %v", err)
	}
}

// What a gateway is changes while the sandbox runs.
func TestGatewaysChange(t *testing.T) {
	b := connect(t, "obs0")
	o := observer(t)
	b.observe(o, "a")
	ask := ether(unix.ETH_P_ARP, arp(1, self4, gateway4))
	b.send(ask)
	want(t, o, "a", 1, 0)
	if err := o.Observe("a", map[int]map[netip.Addr]bool{b.end: {other4: true}}, b.leads); err != nil {
		t.Fatal(err)
	}
	b.send(ask, ether(unix.ETH_P_ARP, arp(1, self4, other4)))
	want(t, o, "a", 2, 1)
	if n := len(programs(t, b.end)); n != 1 {
		t.Errorf("%d programs are attached, want one", n)
	}
}

// Another end takes the place of one that is gone, and what was counted stays.
func TestTheOtherEndChanges(t *testing.T) {
	b := connect(t, "obs0")
	o := observer(t)
	b.observe(o, "a")
	ask := ether(unix.ETH_P_ARP, arp(1, self4, gateway4))
	b.send(ask)
	want(t, o, "a", 1, 0)
	_, _, since := o.Observed("a")
	b.host.IP("link del obs0")
	b.host.Veth("obs0", b.pod, "eth0")
	b.end = index(t, "obs0")
	b.observe(o, "a")
	b.send(ask)
	want(t, o, "a", 2, 0)
	if _, _, again := o.Observed("a"); again != since {
		t.Errorf("since %v, want %v", again, since)
	}
	if o.ends != 1 {
		t.Errorf("%d links are observed, want one", o.ends)
	}
}

// A link's number is another's by now: before it is attached to, and between that
// and the second look.
func TestANumberIsUsedAgain(t *testing.T) {
	first, second := connect(t, "obs0"), connect(t, "obs1")
	o := observer(t)
	if err := o.Observe("a", ends(second.end), first.leads); err != nil {
		t.Fatal(err)
	}
	if n := len(programs(t, second.end)); n != 0 {
		t.Errorf("%d programs at a link that is another sandbox's", n)
	}
	looks := 0
	err := o.Observe("a", ends(second.end), func(end int) (bool, error) {
		if looks++; looks == 1 {
			return true, nil
		}
		return first.leads(end)
	})
	if !errors.Is(err, errNotOwner) || looks != 2 {
		t.Errorf("error %v after %d looks, want %v", err, looks, errNotOwner)
	}
	if n := len(programs(t, second.end)); n != 0 {
		t.Errorf("%d programs at a link that came to be another sandbox's", n)
	}
	if _, _, since := o.Observed("a"); !since.IsZero() || o.ends != 0 {
		t.Errorf("said to be observed since %v, %d links", since, o.ends)
	}

	// The very number, given to the link of another sandbox.
	first.observe(o, "a")
	first.host.IP("link del obs0")
	third := nstest.New(t)
	first.host.IP("link add obs0 index " + strconv.Itoa(first.end) + " type veth peer name eth0 netns " + third.Ref())
	first.host.IP("link set obs0 up")
	third.IP("link set eth0 up")
	next := &bed{tb: t, host: first.host, pod: third, name: "obs0", end: first.end}
	ask := ether(unix.ETH_P_ARP, arp(1, self4, gateway4))
	next.send(ask)
	want(t, o, "a", 0, 0)
	next.observe(o, "c")
	next.send(ask)
	want(t, o, "c", 1, 0)
	want(t, o, "a", 0, 0)
	first.observe(o, "a") // by the old number
	o.Forget("a")
	next.send(ask)
	want(t, o, "c", 2, 0)
}

func TestManyLinksOfOneSandbox(t *testing.T) {
	b := connect(t, "obs0")
	o := observer(t)
	var all []int
	for i := range maxEndsOfOne + 1 {
		name := "many" + strconv.Itoa(i)
		b.host.Veth(name, b.pod, name)
		t.Cleanup(func() { _, _ = b.host.TryIP("link del " + name) })
		all = append(all, index(t, name))
	}
	if err := o.Observe("a", ends(all...), b.leads); !errors.Is(err, errTooWide) {
		t.Errorf("error %v, want %v", err, errTooWide)
	}
	if o.ends != maxEndsOfOne {
		t.Errorf("%d links are observed, want %d", o.ends, maxEndsOfOne)
	}
}

func TestNothingIsLeftAfterAKill(t *testing.T) {
	b := connect(t, "obs0")
	cmd := itself(t, b.end)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // that it reads from
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	before := len(programs(t, b.end))
	killed := cmd.Process.Kill()
	_ = cmd.Wait() // says that it was killed
	if line != "observing\n" || before != 1 || killed != nil {
		t.Fatalf("the other process said %q, %d programs, kill: %v", line, before, killed)
	}
	nstest.Eventually(t, "the program to be gone", func() bool { return len(programs(t, b.end)) == 0 })
}

func TestObservingNeedsBPFAndNetworkRights(t *testing.T) {
	b := connect(t, "obs0")
	for name, c := range map[string]struct {
		caps []int
		ok   bool
	}{
		"none":                        {nil, false},
		"CAP_BPF":                     {[]int{unix.CAP_BPF}, false},
		"CAP_NET_ADMIN":               {[]int{unix.CAP_NET_ADMIN}, false},
		"CAP_BPF and CAP_NET_ADMIN":   {[]int{unix.CAP_BPF, unix.CAP_NET_ADMIN}, true},
		"CAP_SYS_ADMIN, as of old":    {[]int{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN}, true},
		"CAP_PERFMON without CAP_BPF": {[]int{unix.CAP_PERFMON, unix.CAP_NET_ADMIN}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var o *Observer
			err := withOnly(c.caps, func() (err error) {
				if o, err = New(); err == nil {
					err = o.Observe("a", ends(b.end), always)
				}
				return err
			})
			if o != nil {
				defer o.Close()
			}
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				b.send(ether(unix.ETH_P_ARP, arp(1, self4, gateway4)))
				want(t, o, "a", 1, 0)
				return
			}
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("error %v, want one that says that it is not permitted", err)
			}
		})
	}
}

// withOnly runs fn on a thread that has these capabilities and no others, and that
// ends with it.
func withOnly(caps []int, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // it would never end
			done <- withOnly(caps, fn)
			runtime.UnlockOSThread()
			return
		}
		var data [2]unix.CapUserData
		for _, c := range caps {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}
