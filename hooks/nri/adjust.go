// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"path"
	"slices"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/pkg/annotation"
	"github.com/neighpin/neighpin/pkg/sandbox"
	"github.com/neighpin/neighpin/pkg/selection"
)

// LiveFileMount is where containers see the folder of the live file.
const LiveFileMount = "/run/neighpin"

// adjusting is one container that is being created. Every plugin is shown the
// container as those before it left it, and NRI fails a container for which two
// plugins set one annotation or mount (nri pkg/adaptation/result.go,
// adjustAnnotations and adjustMounts; pkg/api/owners.go). So what is there
// already is left alone unless it is surely the pod's own.
type adjusting struct {
	engine    *sandbox.Engine
	pod       *api.PodSandbox
	container *api.Container
	logger    logrus.FieldLogger
	answer    *api.ContainerAdjustment // nil: nothing is to be changed
}

func (h *handlers) adjusting(pod *api.PodSandbox, container *api.Container) *adjusting {
	return &adjusting{engine: h.engine, pod: pod, container: container, logger: h.log}
}

// log is for what is said of the container, which is rarely anything.
func (a *adjusting) log() logrus.FieldLogger {
	return a.logger.WithFields(logrus.Fields{
		"pod": a.pod.GetNamespace() + "/" + a.pod.GetName(), "sandbox": a.pod.GetId(), "container": a.container.GetName(),
	})
}

// adjustment returns what the container is to be changed by, made at first use.
func (a *adjusting) adjustment() *api.ContainerAdjustment {
	if a.answer == nil {
		a.answer = &api.ContainerAdjustment{}
	}
	return a.answer
}

// annotate sets the annotation. A container that carries what this neighpin would
// set was served by another one during a rolling update.
func (a *adjusting) annotate(value string) {
	if value == "" {
		return
	}
	brought, ok := a.container.GetAnnotations()[annotation.Key]
	if !ok {
		a.adjustment().AddAnnotation(annotation.Key, value)
		return
	}
	log := a.log().WithField("bytes", len(brought))
	switch {
	// The other neighpin may know of another repair; what it knows is in the
	// record.
	case same(brought, value), same(brought, a.engine.RecordedAnnotation(a.pod.GetId())):
		return
	case brought == a.pod.GetAnnotations()[annotation.Key]:
		log.Warnf("pod brings its own %s; overwriting it with what was captured", annotation.Key)
	default:
		// Only administrators' programs can put it there: an NRI plugin whose
		// index is lower, a device plugin, the runtime's own configuration.
		log.Errorf("another plugin, or the runtime itself, has set %s to something else; leaving the container as it is, without what was captured: NRI would fail a container for which two plugins set one annotation", annotation.Key)
		return
	}
	a.adjustment().AddAnnotation(annotation.Key, value)
}

// mountLiveFile shows the container the folder of the live file, read-only. A
// mount of the file itself would go on showing the first one when another takes
// its place.
func (a *adjusting) mountLiveFile() {
	if a.pod.GetAnnotations()[selection.FileAnnotation] != "true" {
		return
	}
	folder := a.engine.LiveFile(a.pod.GetId())
	if folder == "" {
		a.log().Infof("pod asks for %s and does not get it: it is for pinned pods of runc and its like, as podAnnotations allows", selection.FileAnnotation)
		return
	}
	if i := slices.IndexFunc(a.container.GetMounts(), inTheWay); i >= 0 {
		m := a.container.GetMounts()[i]
		if m.GetDestination() != LiveFileMount || m.GetSource() != folder { // else another neighpin's
			a.log().WithField("mount", m.GetDestination()).Errorf("container has a mount of its own that leaves no room for %s: it does not see the live file; the annotation %s is not affected",
				LiveFileMount, annotation.Key)
		}
		return
	}
	a.adjustment().AddMount(&api.Mount{
		Destination: LiveFileMount, Source: folder, Type: "bind",
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"},
	})
}

// inTheWay tells whether a mount leaves no room for LiveFileMount: it is at that
// place, below it, where the folder is read-only, or so far above it that the
// place cannot be made.
func inTheWay(m *api.Mount) bool {
	at := path.Clean(m.GetDestination())
	below := at == LiveFileMount || strings.HasPrefix(at, LiveFileMount+"/")
	above := strings.HasPrefix(LiveFileMount, at+"/") && slices.Contains(m.GetOptions(), "ro")
	return below || above
}
