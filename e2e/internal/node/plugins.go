// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
)

// Where containerd looks for NRI plugins to launch, and for their configuration (NAME.conf).
const (
	pluginDir       = dir + "/nri/plugins"
	pluginConfigDir = dir + "/nri/conf.d"
)

// installPlugins makes the plugin folders hold what the options say, and nothing else.
func (n *Node) installPlugins() error {
	for _, folder := range []string{pluginDir, pluginConfigDir} {
		if err := os.RemoveAll(folder); err != nil {
			return fmt.Errorf("empty the plugin folder: %w", err)
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("make the plugin folder: %w", err)
		}
	}
	for name, config := range n.options.Plugins {
		if err := os.Symlink(n.programs.Neighpin(), filepath.Join(pluginDir, name)); err != nil {
			return fmt.Errorf("install plugin %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(pluginConfigDir, name+".conf"), []byte(config), 0o644); err != nil {
			return fmt.Errorf("configure plugin %s: %w", name, err)
		}
	}
	return nil
}
