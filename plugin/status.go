// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"runtime/pprof"
	"slices"

	"github.com/neighpin/neighpin/hooks/nri"
	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
	"github.com/neighpin/neighpin/pkg/record"
)

// snapshot collects the status of the daemon's parts.
func (d *daemon) snapshot(conf config.Config) status.Status {
	told := d.outline(conf)
	told.Sandboxes = slices.AppendSeq([]record.Record{}, told.Records)
	return told
}

// outline is the snapshot with its sandboxes still to be gone through.
func (d *daemon) outline(conf config.Config) status.Status {
	connection, engine := d.connector.State(), d.engine.Overview()
	told := status.Status{
		Version: programVersion(), Node: nodeName(conf), StartedAt: d.started.UTC(), Config: d.follower.Status(),
		NRI: nriStatus(connection, conf),
		Store: status.Store{
			Connected: engine.StoreConnected, Socket: conf.ContainerdSocket, Error: text(engine.StoreError),
		},
		Host:    status.Host{Heard: engine.HostHeard, Error: text(engine.HostError)},
		Records: d.engine.Sandboxes(),
	}
	if conf.Observe {
		told.Observe = &status.Observe{Counting: d.observer != nil, Error: text(d.observeErr)}
	}
	return told
}

// nodeName is what the node is called; empty where the host has no name either.
func nodeName(conf config.Config) string {
	name, _ := os.Hostname()
	return cmp.Or(conf.NodeName, name)
}

func nriStatus(state nri.State, conf config.Config) status.NRI {
	return status.NRI{
		Connected: state.Connected, Synchronized: state.Synchronized, Socket: conf.NRISocket,
		Runtime: state.Runtime, RuntimeVersion: state.RuntimeVersion, RequestTimeoutMs: state.RequestTimeout.Milliseconds(),
		Error: text(state.Err),
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// details are what root can ask for beside the status and the probes.
func (d *daemon) details() map[string]http.Handler {
	return map[string]http.Handler{
		status.ConfigPath: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(d.follower.InForce()) // a client that left is no fault
		}),
		status.MetricsPath: d.metrics.Handler(),
		status.GoroutinesPath: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = pprof.Lookup("goroutine").WriteTo(w, 1) // as above
		}),
	}
}
