// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/neighpin/neighpin/hooks/nri"
	"github.com/neighpin/neighpin/pkg/sandbox"
)

// Status is what the daemon says of itself: the JSON of "neighpin status".
type Status struct {
	Version    string           `json:"version"`
	Node       string           `json:"node,omitempty"`
	StartedAt  time.Time        `json:"startedAt"`
	Config     ConfigStatus     `json:"config"`
	NRI        NRIStatus        `json:"nri"`
	Containerd ContainerdStatus `json:"containerd"`
	Host       HostStatus       `json:"host"`
	Observe    *ObserveStatus   `json:"observe,omitempty"`
	Sandboxes  []sandbox.Record `json:"sandboxes"`

	// records are the Sandboxes, where these are not collected.
	records iter.Seq[sandbox.Record]
}

// write writes the status as JSON, one sandbox after the other: as a whole it is many
// megabytes on a full node, which the encoder would keep.
func (s Status) write(w io.Writer) error {
	records := s.records
	if records == nil {
		records = slices.Values(s.Sandboxes)
	}
	s.Sandboxes = []sandbox.Record{}
	outline, err := json.Marshal(s)
	if err != nil {
		return err
	}
	const end = "]}"
	outline, found := bytes.CutSuffix(outline, []byte(end))
	if !found {
		return errors.New("write the status: the sandboxes are not last in it")
	}
	out := bufio.NewWriter(w)
	_, err = out.Write(outline)
	encoder, first := json.NewEncoder(out), true
	for rec := range records {
		if !first && err == nil {
			err = out.WriteByte(',')
		}
		if first = false; err == nil {
			err = encoder.Encode(rec)
		}
		if err != nil {
			return err
		}
	}
	_, _ = out.WriteString(end + "\n") // Flush tells
	return out.Flush()
}

// HostStatus tells whether changes of the host's links are heard, by which pins
// follow the truth at once.
type HostStatus struct {
	Heard bool   `json:"heard"`
	Error string `json:"error,omitempty"`
}

// ObserveStatus tells whether what pods ask for is counted, where that is asked for.
type ObserveStatus struct {
	Counting bool   `json:"counting"`
	Error    string `json:"error,omitempty"`
}

// NRIStatus is the connection to NRI.
type NRIStatus struct {
	Connected        bool   `json:"connected"`
	Synchronized     bool   `json:"synchronized"`
	Socket           string `json:"socket"`
	Runtime          string `json:"runtime,omitempty"`
	RuntimeVersion   string `json:"runtimeVersion,omitempty"`
	RequestTimeoutMs int64  `json:"requestTimeoutMs,omitempty"`
	Error            string `json:"error,omitempty"`
}

// ContainerdStatus is the connection to containerd's sandbox store.
type ContainerdStatus struct {
	Connected bool   `json:"connected"`
	Socket    string `json:"socket"`
	Error     string `json:"error,omitempty"`
}

// snapshot collects the status of the daemon's parts.
func (d *daemon) snapshot(config Config) Status {
	status := d.outline(config)
	status.Sandboxes = slices.AppendSeq([]sandbox.Record{}, status.records)
	return status
}

// outline is the snapshot with its sandboxes still to be gone through.
func (d *daemon) outline(config Config) Status {
	connection, engine := d.connector.State(), d.engine.Overview()
	status := Status{
		Version: version, Node: nodeName(config), StartedAt: d.started.UTC(), Config: d.reload.Status(),
		NRI: nriStatus(connection, config),
		Containerd: ContainerdStatus{
			Connected: engine.StoreConnected, Socket: config.ContainerdSocket, Error: text(engine.StoreError),
		},
		Host:    HostStatus{Heard: engine.Listening, Error: text(engine.ListenError)},
		records: d.engine.Sandboxes(),
	}
	if config.Observe {
		status.Observe = &ObserveStatus{Counting: d.observer != nil, Error: text(d.observeErr)}
	}
	return status
}

// nodeName is what the node is called; empty where the host has no name either.
func nodeName(config Config) string {
	name, _ := os.Hostname()
	return cmp.Or(config.NodeName, name)
}

func nriStatus(state nri.State, config Config) NRIStatus {
	return NRIStatus{
		Connected: state.Connected, Synchronized: state.Synchronized, Socket: config.NRISocket,
		Runtime: state.Runtime, RuntimeVersion: state.RuntimeVersion, RequestTimeoutMs: state.RequestTimeout.Milliseconds(),
		Error: text(state.Err),
	}
}

// ready tells that the daemon is connected and has taken over what was there: nil,
// or what is missing.
func ready(nri NRIStatus) error {
	switch {
	case nri.Connected && nri.Synchronized:
		return nil
	case nri.Connected:
		return errors.New("not ready: connected to NRI, not synchronized yet")
	}
	return fmt.Errorf("not ready: not connected to NRI at %s%s", nri.Socket, because(nri.Error))
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

const (
	socketName = "neighpin.sock"
	statusPath = "/status"
	livePath   = "/live"
	readyPath  = "/ready"
	// statusTimeout bounds both sides of one question.
	statusTimeout = 5 * time.Second
)

// askStatus asks the daemon how everything is.
func askStatus(ctx context.Context, stateDir string) (Status, error) {
	var status Status
	err := ask(ctx, stateDir, statusPath, func(response *http.Response) error {
		return json.NewDecoder(response.Body).Decode(&status)
	})
	return status, err
}

// askLive asks the daemon whether it moves: nil, or what does not.
func askLive(ctx context.Context, stateDir string) error {
	return ask(ctx, stateDir, livePath, func(response *http.Response) error {
		if response.StatusCode == http.StatusOK {
			return nil
		}
		return refusal(response)
	})
}

// askReady asks the daemon whether it is ready: nil, or what is missing. What that
// costs does not depend on how many sandboxes there are; a probe asks again and again.
func askReady(ctx context.Context, stateDir string) error {
	var unknown bool
	var missing error
	err := ask(ctx, stateDir, readyPath, func(response *http.Response) error {
		switch response.StatusCode {
		case http.StatusOK:
		case http.StatusNotFound:
			unknown = true
		default:
			missing = refusal(response)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !unknown {
		return missing
	}
	// During an update the older daemon may answer, which knows only the whole.
	status, err := askStatus(ctx, stateDir)
	if err != nil {
		return err
	}
	return ready(status.NRI)
}

// refusal is what an answer other than OK says.
func refusal(response *http.Response) error {
	why, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // as much as there is
	return errors.New(strings.TrimSpace(string(why)))
}

// ask puts one question over the status socket.
func ask(ctx context.Context, stateDir, question string, read func(*http.Response) error) error {
	path := filepath.Join(stateDir, socketName)
	client := http.Client{
		Timeout: statusTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var dialer net.Dialer
				return dialer.DialContext(ctx, "unix", path)
			},
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://neighpin"+question, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask daemon at %s (is it running, and are you root?): %w", path, errors.Unwrap(err))
	}
	defer func() { _ = response.Body.Close() }()
	if err := read(response); err != nil {
		return fmt.Errorf("answer from %s: %w", path, err)
	}
	return nil
}
