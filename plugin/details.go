// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What the status socket has beside the status and the probes, for "neighpin check"
// and "neighpin support-bundle".
const (
	configPath     = "/config"
	metricsPath    = "/metrics"
	goroutinesPath = "/goroutines"
)

// maxDetail bounds one answer, in bytes.
const maxDetail = 8 << 20

// route is one more thing that the status socket answers.
type route struct {
	path    string
	handler http.Handler
}

// details are answers that only root can ask for, over the status socket.
func (d *daemon) details(config Config) []route {
	return []route{
		{readyPath, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			answer(w, ready(nriStatus(d.connector.State(), config)))
		})},
		{configPath, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(d.reload.Config()) // a client that left is no fault
		})},
		{metricsPath, d.metrics.Handler()},
		{goroutinesPath, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = pprof.Lookup("goroutine").WriteTo(w, 1) // as above
		})},
	}
}

// askDetail asks the daemon for one of its details.
func askDetail(ctx context.Context, stateDir, what string) (data []byte, err error) {
	err = ask(ctx, stateDir, what, func(response *http.Response) error {
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", response.Status)
		}
		data, err = io.ReadAll(io.LimitReader(response.Body, maxDetail))
		return err
	})
	return data, err
}

// inForce is the configuration of the daemon, or the given one where none answers.
func (a *app) inForce(ctx context.Context, config Config) Config {
	data, err := askDetail(ctx, config.StateDir, configPath)
	if err != nil {
		return config
	}
	running := defaultConfig()
	if err := json.Unmarshal(data, &running); err != nil {
		return config // of a release that has other keys
	}
	return running
}

// given tells whether the command line names a configuration of its own.
func given(cmd *cobra.Command) bool {
	found := cmd.Flag("config").Changed
	config := defaultConfig()
	config.flags().VisitAll(func(f *pflag.Flag) {
		// The state directory only says where the daemon is.
		found = found || f.Name != "state-dir" && cmd.Flag(f.Name).Changed
	})
	return found
}
