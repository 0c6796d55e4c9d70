// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/neighpin/neighpin/pkg/annotation"
)

func ExampleParse() {
	value := `{"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00.5Z","neighbors":[` +
		`{"dst":"10.88.0.1","dev":"eth0","lladdr":"0a:58:0a:58:00:01","state":["PERMANENT"],"source":"peer"}]}`
	pinned, err := annotation.Parse(value)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range pinned.Neighbors {
		fmt.Printf("%s is at %s on %s\n", e.Dst, e.LLAddr, e.Dev)
	}
	// Output: 10.88.0.1 is at 0a:58:0a:58:00:01 on eth0
}

func ExampleParse_refused() {
	_, err := annotation.Parse(`{"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00.5Z","neighbors":[` +
		`{"dst":"10.88.0.1","dev":"eth0","lladdr":"ff:ff:ff:ff:ff:ff","state":["PERMANENT"],"source":"peer"}]}`)
	var fault *annotation.Error
	if errors.As(err, &fault) {
		fmt.Println("at", fault.Field)
	}
	if errors.Is(err, annotation.ErrVersion) {
		fmt.Println("this runtime is too old for it")
	}
	fmt.Println(err)
	// Output:
	// at neighbors[0].lladdr
	// parse annotation io.neighpin.neighbors: neighbors[0].lladdr: want a unicast address, got the group address ff:ff:ff:ff:ff:ff
}

func ExampleAnnotation_Marshal() {
	pinned := annotation.Annotation{
		Cookie:     4711, // the namespace's, as netns.NS.Cookie tells it
		CapturedAt: time.Date(2026, 11, 22, 0, 18, 0, 0, time.UTC),
		Neighbors: []annotation.Entry{
			{Dst: netip.MustParseAddr("fe80::1"), Dev: "eth0", LLAddr: "0a:58:0a:58:00:01", Source: annotation.SourcePeer},
		},
	}
	value, err := pinned.Marshal()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(value)
	// Output: {"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00Z","neighbors":[{"dst":"fe80::1","dev":"eth0","lladdr":"0a:58:0a:58:00:01","state":["PERMANENT"],"source":"peer"}]}
}
