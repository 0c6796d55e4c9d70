// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// conflist leaves a pod's network to cni-datapath, which gives it both families.
const conflist = `{
  "cniVersion": "1.0.0",
  "name": "neighpin-e2e",
  "plugins": [
    {
      "type": "cni-datapath",
      "ipam": {
        "type": "host-local",
        "dataDir": "` + dir + `/ipam",
        "ranges": [[{"subnet": "10.97.0.0/16"}], [{"subnet": "fd97::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    }
  ]
}
`

func writeCNI(conf string) error {
	return os.WriteFile(filepath.Join(conf, "10-e2e.conflist"), []byte(conflist), 0o644)
}

// linkCNI makes one folder of all CNI plugins: containerd looks into several, but the plugins call each other.
func linkCNI(programs setup.Programs) error {
	bin := filepath.Join(dir, "cni-bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	plugins, err := filepath.Glob(filepath.Join(programs.CNI, "*"))
	if err != nil {
		return err
	}
	for _, plugin := range append(plugins, filepath.Join(programs.Own, "cni-datapath")) {
		link := filepath.Join(bin, filepath.Base(plugin))
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(plugin, link); err != nil {
			return fmt.Errorf("link CNI plugin: %w", err)
		}
	}
	return nil
}
