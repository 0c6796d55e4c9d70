// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

const (
	socketName = "neighpin.sock"

	statusPath = "/status"
	livePath   = "/live"
	readyPath  = "/ready"
)

// The details: what the socket has beside the status and the probes, for "neighpin check"
// and "neighpin support-bundle".
const (
	ConfigPath     = "/config"
	MetricsPath    = "/metrics"
	GoroutinesPath = "/goroutines"
)

// Timeout bounds both sides of one question.
const Timeout = 5 * time.Second

// maxDetail bounds one detail, in bytes.
const maxDetail = 8 << 20

// Ask asks the daemon how everything is.
func Ask(ctx context.Context, stateDir string) (Status, error) {
	var status Status
	err := ask(ctx, stateDir, statusPath, func(response *http.Response) error {
		return json.NewDecoder(response.Body).Decode(&status)
	})
	return status, err
}

// Live asks the daemon whether it moves: nil, or what does not.
func Live(ctx context.Context, stateDir string) error {
	return ask(ctx, stateDir, livePath, func(response *http.Response) error {
		if response.StatusCode == http.StatusOK {
			return nil
		}
		return refusal(response)
	})
}

// Ready asks the daemon whether it is ready: nil, or what is missing. What that
// costs does not depend on how many sandboxes there are; a probe asks again and again.
func Ready(ctx context.Context, stateDir string) error {
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
	whole, err := Ask(ctx, stateDir)
	if err != nil {
		return err
	}
	return whole.NRI.Ready()
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
		Timeout: Timeout,
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

// Detail asks the daemon for one of its details.
func Detail(ctx context.Context, stateDir, what string) (data []byte, err error) {
	err = ask(ctx, stateDir, what, func(response *http.Response) error {
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", response.Status)
		}
		data, err = io.ReadAll(io.LimitReader(response.Body, maxDetail))
		return err
	})
	return data, err
}
