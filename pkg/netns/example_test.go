// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"fmt"
	"net"

	"github.com/neighpin/neighpin/pkg/netns"
)

// Two paths lead to one namespace if the cookies are equal.
func ExampleOpen() {
	ns, err := netns.Open("/proc/self/ns/net") // or a pod's, such as /run/netns/NAME
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ns.Close()
	self, err := netns.Self()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer self.Close()
	fmt.Println(ns.Cookie() == self.Cookie())
	// Output: true
}

// What fn asks of the kernel is asked in the namespace; the calling goroutine
// stays where it is.
func ExampleNS_Do() {
	ns, err := netns.Open("/proc/self/ns/net") // or a pod's, such as /run/netns/NAME
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ns.Close()
	var first *net.Interface
	err = ns.Do(func() (err error) {
		first, err = net.InterfaceByIndex(1)
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(first.Name)
	// Output: lo
}

// A program for pods does not touch the host's namespace by mistake, whatever path
// it is given.
func ExampleHost_Open() {
	host, err := netns.NewHost()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	_, err = host.Open("/proc/thread-self/ns/net")
	fmt.Println(errors.Is(err, netns.ErrHost))
	fmt.Println(err)
	// Output:
	// true
	// use network namespace /proc/thread-self/ns/net: it is the host's own network namespace; name the one of a sandbox
}
