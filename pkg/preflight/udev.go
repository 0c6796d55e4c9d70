// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// linkPolicy is what udev does to the address of a veth that CNI makes.
type linkPolicy struct {
	seen   bool   // link files are visible
	file   string // the first that matches
	policy string // its MACAddressPolicy, or empty
}

// linkDirs are where link files are, the strongest first (systemd.link(5)): of one
// name only the first counts, and of all that count the first by name that matches
// the link.
var linkDirs = [...]string{"etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network", "lib/systemd/network"}

// maxLinkFile bounds what is read of one file, in bytes.
const maxLinkFile = 64 << 10

// readLinkPolicy finds the file that applies to a veth.
func readLinkPolicy(root string) (p linkPolicy) {
	files := map[string]string{} // name: path
	for _, dir := range linkDirs {
		paths, err := filepath.Glob(filepath.Join(root, dir, "*.link"))
		if err != nil {
			continue
		}
		for _, file := range paths {
			if name := filepath.Base(file); files[name] == "" {
				files[name] = file
			}
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		info, err := os.Stat(files[name])
		if err != nil || info.Size() > maxLinkFile {
			continue
		}
		data, err := os.ReadFile(files[name])
		if err != nil {
			continue
		}
		p.seen = true
		if policy, ok := policyForVeth(string(data)); ok {
			p.file, p.policy = files[name], policy
			return p
		}
	}
	return p
}

// policyForVeth reads MACAddressPolicy of a file that applies to a link as CNI makes
// them; ok is false where it does not, or where that rests on what no file tells.
func policyForVeth(text string) (policy string, ok bool) {
	section, matched := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch section {
		case "[Match]":
			if !matchesVeth(key, value) {
				return "", false
			}
			matched = true
		case "[Link]":
			if key == "MACAddressPolicy" {
				policy = value
			}
		}
	}
	return policy, matched
}

// matchesVeth tells whether one condition holds for a veth named as CNI plugins name
// them.
func matchesVeth(key, value string) bool {
	candidates := []string{}
	switch key {
	case "OriginalName":
		candidates = []string{"veth0a1b2c3d", "cali0a1b2c3d4e5", "eni0a1b2c3d4e5", "lxc0a1b2c3d4e5f"}
	case "Driver", "Kind", "Type":
		candidates = []string{"veth"}
		if key == "Type" {
			candidates = []string{"ether"}
		}
	}
	for glob := range strings.FieldsSeq(value) {
		for _, name := range candidates {
			if ok, err := path.Match(glob, name); ok && err == nil {
				return true
			}
		}
	}
	return false
}
