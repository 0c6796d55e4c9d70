// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"
	"os"
)

// Newest is the release of containerd that a node runs unless a test asks for another.
const Newest = "2.4"

// Oldest is the oldest release 2 of containerd that a node can run.
const Oldest = "2.0"

// ReleaseEnv names the environment variable by which a person asks for another release.
const ReleaseEnv = "NEIGHPIN_E2E_CONTAINERD"

// Releases are the minor releases of containerd that a node can run, oldest first. The part of each has the newest
// patch release that the Go module proxy serves.
func Releases() []string { return []string{"1.7", Oldest, "2.2", "2.3", Newest} }

// UpgradePath are the releases of an upgrade in place, each of which containerd supports: from one long-term release to the
// next, and from there to the minor release that follows (containerd's RELEASES.md, "Upgrade Path").
func UpgradePath() []string { return []string{"1.7", "2.3", Newest} }

// ReleaseFromEnvironment is the release asked for by ReleaseEnv, else the newest.
func ReleaseFromEnvironment() (string, error) {
	release := os.Getenv(ReleaseEnv)
	if release == "" {
		return Newest, nil
	}
	if _, err := containerdPart(release); err != nil {
		return "", fmt.Errorf("read %s: %w", ReleaseEnv, err)
	}
	return release, nil
}

// Of are the same programs with another release of containerd, one of Containerds.
func (p Programs) Of(release string) (Programs, error) {
	folder, ok := p.Containerds[release]
	if !ok {
		return Programs{}, fmt.Errorf("find containerd %s: it was not built, see Programs.BuildReleases", release)
	}
	p.Release, p.Containerd = release, folder
	return p, nil
}

// containerdPart names the part of a release.
func containerdPart(release string) (string, error) {
	switch release {
	case Newest:
		return "containerd", nil
	case "2.3":
		return "containerd23", nil
	case "2.2":
		return "containerd22", nil
	case Oldest:
		return "containerd20", nil
	case "1.7":
		return "containerd17", nil
	}
	return "", fmt.Errorf("find containerd %q: the releases are %q", release, Releases())
}
