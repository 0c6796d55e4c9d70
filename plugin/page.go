// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/neighpin/neighpin/internal/statuspage"
)

// pageView is what the status page shows of a status.
func pageView(status Status) statuspage.View {
	parts := []statuspage.Part{nriPart(status.NRI), storePart(status.Containerd), hostPart(status.Host), configPart(status.Config)}
	if status.Observe != nil {
		part := statuspage.Part{Name: "What pods ask for", Says: "Counted", State: statuspage.Good}
		if !status.Observe.Counting {
			part = statuspage.Part{Name: part.Name, Says: "Not counted", Detail: status.Observe.Error, State: statuspage.Warn}
		}
		parts = append(parts, part)
	}
	return statuspage.View{
		Node: status.Node, Version: status.Version, StartedAt: status.StartedAt,
		Parts: parts, Sandboxes: status.Sandboxes, AsItShouldBe: asItShouldBe,
	}
}

func nriPart(nri NRIStatus) statuspage.Part {
	part := statuspage.Part{Name: "NRI", Says: "Connected", State: statuspage.Good,
		Detail: fmt.Sprintf("%s %s, timeout %d ms", nri.Runtime, nri.RuntimeVersion, nri.RequestTimeoutMs)}
	switch {
	case !nri.Connected:
		part.Says, part.State, part.Detail = "Not connected", statuspage.Bad, cmp.Or(nri.Error, nri.Socket)
	case !nri.Synchronized:
		part.Says, part.State = "Connected, not synchronized yet", statuspage.Warn
	}
	return part
}

func storePart(store ContainerdStatus) statuspage.Part {
	part := statuspage.Part{Name: "Sandbox store", Says: "Connected", Detail: store.Socket, State: statuspage.Good}
	switch {
	case store.Socket == "":
		part.Says, part.State, part.Detail = "Not used", statuspage.Warn, "no early path: NRI alone tells of pods"
	case !store.Connected:
		part.Says, part.State, part.Detail = "Not connected", statuspage.Bad, cmp.Or(store.Error, store.Socket)
	}
	return part
}

func hostPart(host HostStatus) statuspage.Part {
	if host.Heard {
		return statuspage.Part{Name: "Changes of links", Says: "Heard", Detail: "pins follow them at once", State: statuspage.Good}
	}
	return statuspage.Part{Name: "Changes of links", Says: "Not heard", Detail: cmp.Or(host.Error, "the slow comparison alone finds them"), State: statuspage.Warn}
}

func configPart(config ConfigStatus) statuspage.Part {
	since := config.LoadedAt.UTC().Format(secondForm)
	part := statuspage.Part{Name: "Configuration", Says: "In force", Detail: fmt.Sprintf("since %s", since), State: statuspage.Good}
	switch {
	case !config.OK:
		part.Says, part.State = "Not taken over", statuspage.Bad
		part.Detail = fmt.Sprintf("%s. The one of %s stays in force.", config.Error, since)
	case len(config.NeedsRestart) > 0:
		part.Says, part.State = "In force, but for a restart", statuspage.Warn
		part.Detail = "From the next start: " + strings.Join(config.NeedsRestart, ", ")
	}
	return part
}
