// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/neighpin/neighpin/internal/config"
	"github.com/neighpin/neighpin/internal/status"
)

// secondForm is that of times of which the second is enough.
const secondForm = "2006-01-02 15:04:05 MST"

// Of is what the page shows of a status.
func Of(told status.Status) View {
	parts := []Part{nriPart(told.NRI), storePart(told.Store), hostPart(told.Host), configPart(told.Config)}
	if told.Observe != nil {
		part := Part{Name: "What pods ask for", Says: "Counted", State: Good}
		if !told.Observe.Counting {
			part = Part{Name: part.Name, Says: "Not counted", Detail: told.Observe.Error, State: Warn}
		}
		parts = append(parts, part)
	}
	return View{
		Node: told.Node, Version: told.Version, StartedAt: told.StartedAt,
		Parts: parts, Sandboxes: told.Sandboxes, AsItShouldBe: status.AsItShouldBe,
	}
}

func nriPart(nri status.NRI) Part {
	part := Part{Name: "NRI", Says: "Connected", State: Good,
		Detail: fmt.Sprintf("%s %s, timeout %d ms", nri.Runtime, nri.RuntimeVersion, nri.RequestTimeoutMs)}
	switch {
	case !nri.Connected:
		part.Says, part.State, part.Detail = "Not connected", Bad, cmp.Or(nri.Error, nri.Socket)
	case !nri.Synchronized:
		part.Says, part.State = "Connected, not synchronized yet", Warn
	}
	return part
}

func storePart(store status.Store) Part {
	part := Part{Name: "Sandbox store", Says: "Connected", Detail: store.Socket, State: Good}
	switch {
	case store.Socket == "":
		part.Says, part.State, part.Detail = "Not used", Warn, "no early path: NRI alone tells of pods"
	case !store.Connected:
		part.Says, part.State, part.Detail = "Not connected", Bad, cmp.Or(store.Error, store.Socket)
	}
	return part
}

func hostPart(host status.Host) Part {
	if host.Heard {
		return Part{Name: "Changes of links", Says: "Heard", Detail: "pins follow them at once", State: Good}
	}
	return Part{Name: "Changes of links", Says: "Not heard", Detail: cmp.Or(host.Error, "the slow comparison alone finds them"), State: Warn}
}

func configPart(conf config.Status) Part {
	since := conf.LoadedAt.UTC().Format(secondForm)
	part := Part{Name: "Configuration", Says: "In force", Detail: fmt.Sprintf("since %s", since), State: Good}
	switch {
	case !conf.OK:
		part.Says, part.State = "Not taken over", Bad
		part.Detail = fmt.Sprintf("%s. The one of %s stays in force.", conf.Error, since)
	case len(conf.NeedsRestart) > 0:
		part.Says, part.State = "In force, but for a restart", Warn
		part.Detail = "From the next start: " + strings.Join(conf.NeedsRestart, ", ")
	}
	return part
}
