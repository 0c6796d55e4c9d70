// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"time"
)

// firstLimit is longer than a network stack goes on asking for a neighbor, which is three seconds with gVisor and Linux.
const firstLimit = 10 * time.Second

// first opens a connection to each address, in order, and says how many nanoseconds passed from before connect until the first byte
// of the other side had been read. It stops at the first that fails.
func first(addresses []string) error {
	for _, address := range addresses {
		took, err := firstByte(address)
		if err != nil {
			return err
		}
		fmt.Printf("first %s %d\n", address, took.Nanoseconds())
	}
	return nil
}

func firstByte(address string) (took time.Duration, err error) {
	start := time.Now()
	connection, err := net.DialTimeout("tcp", address, firstLimit)
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	if err := connection.SetReadDeadline(start.Add(firstLimit)); err != nil {
		return 0, err
	}
	if _, err := connection.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("read from %s: %w", address, err)
	}
	return time.Since(start), nil
}
