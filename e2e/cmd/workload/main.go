// SPDX-License-Identifier: Apache-2.0

// Command workload is all that is in the test image.
//
//	workload                   waits for SIGTERM: the pause container and idle workloads
//	workload connect ADDR...   opens a TCP connection to each ADDR (host:port), in order
//	workload try ADDR...       the same, for those who expect that it cannot be done
//	workload first ADDR...     opens a TCP connection to each ADDR and says when its first byte came
//	workload spin              keeps one core busy until it is killed
//	workload count ADDR        serves over HTTP how many POSTs there were
//	workload read FILE         prints a file
//	workload neighbor IP MAC N puts a permanent neighbor with mark N (NDA_PROTOCOL) on eth0, whatever is there
//	workload route NET IP      makes a route by way of a gateway on eth0
//
// connect and try print a line per address. A refusal counts as reached: somebody there answered, so a neighbor was
// known. They exit with 1 if an address was not reached in time: connect waits for as long as a machine may stand
// still that has too much to do, and try for three seconds, in which a network stack gives up asking for a neighbor.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	patient = 20 * time.Second
	brief   = 3 * time.Second
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "connect" {
		os.Exit(connect(os.Args[2:], patient))
	}
	if len(os.Args) > 2 && os.Args[1] == "try" {
		os.Exit(connect(os.Args[2:], brief))
	}
	if len(os.Args) > 2 && os.Args[1] == "first" {
		os.Exit(complain(first(os.Args[2:])))
	}
	if len(os.Args) == 3 && os.Args[1] == "read" {
		os.Exit(read(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == "count" {
		count(os.Args[2])
	}
	if len(os.Args) == 5 && os.Args[1] == "neighbor" {
		os.Exit(complain(setNeighbor(os.Args[2], os.Args[3], os.Args[4])))
	}
	if len(os.Args) == 4 && os.Args[1] == "route" {
		os.Exit(complain(setRoute(os.Args[2], os.Args[3])))
	}
	if len(os.Args) == 2 && os.Args[1] == "spin" {
		for { //nolint:staticcheck // to use the processor is its task
		}
	}
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "usage: workload | workload connect ADDR... | workload try ADDR... | workload first ADDR... | workload spin | workload count ADDR | workload read FILE | workload neighbor IP MAC N | workload route NET IP")
		os.Exit(2)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	<-signals
}

func connect(addresses []string, limit time.Duration) (code int) {
	for _, address := range addresses {
		start := time.Now()
		connection, err := net.DialTimeout("tcp", address, limit)
		took := time.Since(start).Round(10 * time.Microsecond)
		switch {
		case err == nil:
			connection.Close()
			fmt.Printf("%s connected %s\n", address, took)
		case errors.Is(err, syscall.ECONNREFUSED):
			fmt.Printf("%s refused %s\n", address, took)
		default:
			fmt.Printf("%s unreached %s %v\n", address, took, err)
			code = 1
		}
	}
	return code
}

func read(path string) (code int) {
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		return 1
	}
	fmt.Print(string(text))
	return 0
}
