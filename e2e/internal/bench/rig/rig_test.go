// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/neighpin/neighpin/e2e/internal/setup"
	"github.com/neighpin/neighpin/pkg/netns"
)

// echo is the argument by which the tests start this program as a child that answers what it is told.
const echo = "echo"

// TestMain runs the tests in an enclosure.
func TestMain(m *testing.M) {
	os.Exit(Main(Children{echo: Reporting(func(_ context.Context, args []string) error {
		if len(args) > 0 {
			return errors.New(args[0])
		}
		in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
		for told := 0; ; told++ {
			var order string
			if in.Decode(&order) != nil {
				return out.Encode(told)
			}
			if err := out.Encode(order + "!"); err != nil {
				return err
			}
		}
	})}, m.Run))
}

func TestAChildAnswersEachOrderAndSaysALastWord(t *testing.T) {
	c, err := StartChild("the echo", exec.Command("/proc/self/exe", echo))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		var answer string
		if err := errors.Join(c.Send(word), c.Receive(&answer)); err != nil || answer != word+"!" {
			t.Errorf("to %q it answers %q, %v", word, answer, err)
		}
	}
	var told int
	if err := c.Close(&told); err != nil || told != 2 {
		t.Errorf("it was told %d orders, and ended with %v", told, err)
	}
}

func TestAChildThatFailsIsNoticed(t *testing.T) {
	c, err := StartChild("the echo", exec.Command("/proc/self/exe", echo, "refused on purpose"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(nil); err == nil || !strings.Contains(err.Error(), "the echo") {
		t.Errorf("its end: %v", err)
	}
}

// A space has what a pod has, and nothing of it is left when it was removed.
func TestASpaceIsFurnishedAndGoes(t *testing.T) {
	self, err := netns.Self()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = self.Close() })
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(links.Close)
	path := filepath.Join(t.TempDir(), "space")
	s, err := NewSpace(self, path)
	if err != nil {
		t.Fatal(err)
	}
	const group = 4711
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = "rigtest", group
	if err := links.LinkAdd(s.Veth(attrs)); err != nil {
		t.Fatal(err)
	}
	link, err := s.Link()
	if err != nil {
		t.Fatal(err)
	}
	single := Single(net.ParseIP("10.9.0.2"), net.ParseIP("169.254.1.1"))
	if err := Furnish(s.Links, link, single, Single(net.ParseIP("fd09::2"), net.ParseIP("fd09::1"))); err != nil {
		t.Error(err)
	}
	for family, want := range map[int]string{netlink.FAMILY_V4: "169.254.1.1", netlink.FAMILY_V6: "fd09::1"} {
		ways, err := s.Links.RouteList(link, family)
		found := false
		for _, way := range ways {
			found = found || way.Gw.String() == want
		}
		if !found {
			t.Errorf("no way leads to %s: %v, %v", want, ways, err)
		}
	}
	if err := errors.Join(RemoveLinks(self, group), s.Remove()); err != nil {
		t.Error(err)
	}
	if _, err := links.LinkByName(attrs.Name); err == nil {
		t.Error("the link is left")
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace's file is left: %v", err)
	}
	if err := RemoveLinks(self, group); err != nil {
		t.Errorf("where there is no link: %v", err)
	}
}

// What a daemon says before it ends is in the error, or nobody would know why a section failed.
func TestADaemonThatEndsSaysWhy(t *testing.T) {
	programs, err := setup.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	d, err := StartDaemon(DaemonOptions{Program: programs.Neighpin(), Folder: t.TempDir(), Socket: "none", Args: []string{"--no-such-flag"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("waiting for it: %v", err)
	}
	if err := d.Close(); err == nil {
		t.Error("it ended by itself, and that counts as a good end")
	}
}
