// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LogsEnv names the environment variable with the folder where logs of failures are kept. Without it that is
// neighpin-e2e-logs in the folder for temporary files.
const LogsEnv = "NEIGHPIN_E2E_LOGS"

// KeepLogs copies the node's logs to a new folder outside the enclosure and returns its path. The name becomes
// part of it.
func (n *Node) KeepLogs(name string) (string, error) {
	parent := os.Getenv(LogsEnv)
	if parent == "" {
		parent = filepath.Join(os.TempDir(), "neighpin-e2e-logs")
	}
	folder := filepath.Join(parent, time.Now().UTC().Format("20060102-150405")+"-"+strings.ReplaceAll(name, "/", "_"))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	if err := os.CopyFS(folder, os.DirFS(n.LogDir())); err != nil {
		return "", fmt.Errorf("keep the logs: %w", err)
	}
	return folder, nil
}
