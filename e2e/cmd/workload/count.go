// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// count serves a number that grows by one with each POST and is in memory only. Connections are not kept: one that is open at
// a checkpoint belongs to the pod that was checkpointed.
func count(address string) {
	var n atomic.Int64
	server := &http.Server{Addr: address, ReadHeaderTimeout: patient, ReadTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := n.Load()
		if r.Method == http.MethodPost {
			now = n.Add(1)
		}
		fmt.Fprint(w, now)
	})}
	server.SetKeepAlivesEnabled(false)
	fmt.Fprintln(os.Stderr, "workload:", server.ListenAndServe())
	os.Exit(1)
}
