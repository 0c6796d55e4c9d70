// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// Rollout is a rolling update of a DaemonSet by surge.
type Rollout struct {
	Nodes int
	// Surge is how many nodes may have a new pod that is not ready yet. The slot is free again when it is (k8s.io/kubernetes
	// pkg/controller/daemon/update.go, rollingUpdate).
	Surge int
	// Requests is how many requests a second the DaemonSet controller may make (kube-controller-manager --kube-api-qps); each node
	// takes two, one pod made and one removed.
	Requests float64
	// ImageMiB is what a node pulls, NodeMiB what it can a second, and RegistryMiB what the registry can for all together.
	ImageMiB, NodeMiB, RegistryMiB float64
	// Start is the time from the pull to the running program at least; chance makes it up to twice that.
	Start time.Duration
	// Delay is readiness' initialDelaySeconds, and Period its periodSeconds: when within a period the pod begins is chance.
	Delay, Period time.Duration
}

// Outcome is what became of it.
type Outcome struct {
	Took time.Duration
	// Pulling is the most that pulled at once, and Rate what they took of the registry then, in MiB a second.
	Pulling int
	Rate    float64
}

// phase is what a node's new pod comes to next.
type phase int

const (
	made phase = iota
	pulled
	ready
)

type moment struct {
	at   float64 // seconds
	what phase
}

type moments []moment

func (m moments) Len() int           { return len(m) }
func (m moments) Less(i, j int) bool { return m[i].at < m[j].at }
func (m moments) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }

// Push is for package heap.
func (m *moments) Push(x any) { *m = append(*m, x.(moment)) }

// Pop is for package heap.
func (m *moments) Pop() any {
	old := *m
	last := old[len(old)-1]
	*m = old[:len(old)-1]
	return last
}

// Run simulates it; what is chance follows from the seed.
func (r Rollout) Run(seed uint64) (out Outcome) {
	chance := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a simulation that can be repeated
	var next moments
	var now, api float64 // api is when the controller's next request may be made
	begun, pulling := 0, 0
	request := func() float64 {
		api = max(api, now) + 1/r.Requests
		return api
	}
	begin := func() {
		begun++
		heap.Push(&next, moment{request(), made})
	}
	for range min(r.Surge, r.Nodes) {
		begin()
	}
	for next.Len() > 0 {
		m := heap.Pop(&next).(moment)
		now = m.at
		switch m.what {
		case made:
			pulling++
			rate := min(r.NodeMiB, r.RegistryMiB/float64(pulling))
			if pulling > out.Pulling {
				out.Pulling, out.Rate = pulling, rate*float64(pulling)
			}
			heap.Push(&next, moment{now + r.ImageMiB/rate, pulled})
		case pulled:
			pulling--
			start := r.Start.Seconds() * (1 + chance.Float64())
			heap.Push(&next, moment{now + start + r.Delay.Seconds() + r.Period.Seconds()*chance.Float64(), ready})
		case ready:
			request() // the old pod is removed, and nobody waits for that
			if begun < r.Nodes {
				begin()
			}
		}
	}
	out.Took = time.Duration(now * float64(time.Second))
	return out
}
