// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/neighpin/neighpin/internal/figures"
	"github.com/neighpin/neighpin/pkg/record"
)

// The cluster that docs/scale.md plans for.
const (
	nodes       = 5000
	podsPerNode = 250
)

// fakeCluster is a fake of the API server: it takes every Event and counts, for all simulated nodes. The clock is a fake, too.
type fakeCluster struct {
	began time.Time

	mu     sync.Mutex // guards the following
	away   bool
	asked  map[int]int // requests by second
	writes map[int]int // taken by second
	made   int         // Events that are there
	bytes  int         // of them, as they came
}

func (f *fakeCluster) take(body any, isNew bool) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	second := int(time.Since(f.began) / time.Second)
	f.asked[second]++
	if f.away {
		return &answerError{code: 503, message: "away"}
	}
	f.writes[second]++
	if isNew {
		f.made++
		f.bytes += len(data)
	}
	return nil
}

func (f *fakeCluster) create(_ context.Context, event object) error { return f.take(event, true) }

func (f *fakeCluster) repeat(_ context.Context, _, _ string, change again) error {
	return f.take(change, false)
}

func (f *fakeCluster) close() {}

// until adds up what came before a moment.
func until(by map[int]int, end time.Duration) (sum int) {
	for second, n := range by {
		if second < int(end/time.Second) {
			sum += n
		}
	}
	return sum
}

// outcomes counts what became of troubles, for all nodes.
type outcomes struct {
	mu sync.Mutex // guards the following
	of map[Outcome]int
}

func (o *outcomes) count(outcome Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of[outcome]++
}

// storm runs the writers of some nodes, for which the rest does the same, while happen says what befalls them all.
func storm(t *testing.T, simulated int, happen func(report func(now string), server *fakeCluster)) (*fakeCluster, map[Outcome]int) {
	t.Helper()
	server, came := &fakeCluster{asked: make(map[int]int), writes: make(map[int]int)}, &outcomes{of: make(map[Outcome]int)}
	synctest.Test(t, func(t *testing.T) {
		server.began = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var queues []chan trouble
		for node := range simulated {
			w := newWriter(Options{Node: fmt.Sprintf("node-%d.example.com", node), Count: came.count, Fault: func(error) {}}, usualPacing())
			w.client = server
			queue := make(chan trouble, queueLength)
			queues = append(queues, queue)
			running.Go(func() { w.run(ctx, queue) })
		}
		happen(func(now string) {
			for _, queue := range queues {
				for i := range podsPerNode {
					trouble, ok := read(staleEvent(record.Record{Namespace: "shop", Name: fmt.Sprintf("web-6c8f9d7b5-%05d", i), UID: fmt.Sprintf("4c3f7d52-5d0e-4b8e-9a43-%012d", i)}, now))
					if !ok {
						t.Fatal("a stale copy is no trouble")
					}
					queue <- trouble
				}
			}
			synctest.Wait()
		}, server)
		cancel()
		running.Wait()
	})
	return server, came.of
}

// whole is a figure of the simulated nodes for the whole cluster.
func whole(n, simulated int) float64 { return float64(n) * nodes / float64(simulated) }

// peak is the most in one second.
func peak(by map[int]int) (most int) {
	for _, n := range by {
		most = max(most, n)
	}
	return most
}

// A gateway's address changes under every pod of the cluster in the same second: the API server sees a bounded number of writes a second and
// of Events, and every trouble that is not told is counted.
func TestTroubleOfAWholeClusterIsBoundedAtTheAPIServer(t *testing.T) {
	const simulated = 100
	var afterHour int
	server, came := storm(t, simulated, func(report func(string), server *fakeCluster) {
		report("2")
		<-time.After(time.Hour)
		server.mu.Lock()
		defer server.mu.Unlock()
		afterHour = server.made
	})
	if sent, dropped := came[Sent], came[Dropped]; sent+dropped != simulated*podsPerNode || sent != server.made || sent == 0 {
		t.Errorf("of %d troubles %d were sent, %d dropped; %d Events", simulated*podsPerNode, sent, dropped, server.made)
	}
	// What each node may write at most: its burst at once, then one a minute, for as long as a trouble waits.
	if most := 10 + 1 + int(patience/time.Minute); afterHour > simulated*most*11/10 {
		t.Errorf("%d Events, want at most %d of each of %d nodes", afterHour, most, simulated)
	}
	doc := figures.Read(t, "../../docs/scale.md")
	doc.Check(t, "troubles", whole(simulated*podsPerNode, simulated), 0)
	doc.Check(t, "most writes in one second", whole(peak(server.writes), simulated), 0.4)
	doc.Check(t, "writes in the first minute", whole(until(server.writes, time.Minute), simulated), 0.1)
	doc.Check(t, "Events in all", whole(server.made, simulated), 0.1)
	doc.Check(t, "dropped, and counted", whole(came[Dropped], simulated), 0.1)
	doc.Check(t, "bytes of one Event, as it is sent", float64(server.bytes)/float64(server.made), 0.1)
}

// A second one, hours later, comes to the API server no more at once than the first.
func TestEveryTroubleOfAWholeClusterIsSpread(t *testing.T) {
	const simulated, later = 50, 4 * time.Hour
	var first int
	server, _ := storm(t, simulated, func(report func(string), server *fakeCluster) {
		report("2")
		<-time.After(later)
		server.mu.Lock()
		first = peak(server.writes)
		clear(server.writes)
		server.mu.Unlock()
		report("3")
		<-time.After(time.Minute)
	})
	if again := peak(server.writes); first > simulated/2 || again > simulated/2 || again == 0 {
		t.Errorf("of %d nodes %d write in one second, and later %d", simulated, first, again)
	}
}

// The same again and again: what one node writes in an hour has a limit, whatever happens.
func TestTroubleThatNeverEndsIsBounded(t *testing.T) {
	const simulated = 20
	server, _ := storm(t, simulated, func(report func(string), _ *fakeCluster) {
		for i := range 12 {
			report(fmt.Sprint(i % 10))
			<-time.After(5 * time.Minute)
		}
	})
	perNode := float64(until(server.writes, time.Hour)) / simulated
	if perNode > 1.1*(10+60) {
		t.Errorf("%.1f writes of a node in an hour, want at most 70 and a bit", perNode)
	}
	doc := figures.Read(t, "../../docs/scale.md")
	doc.Check(t, "writes of one node in an hour, at most", perNode, 0.05)
	doc.Check(t, "writes of the cluster in a second then", perNode*nodes/time.Hour.Seconds(), 0.1)
}

// An API server that comes back is not asked by all nodes in the same second.
func TestAnAPIServerThatComesBackIsNotOverrun(t *testing.T) {
	const away, simulated = 5 * time.Minute, 100
	server, _ := storm(t, simulated, func(report func(string), server *fakeCluster) {
		server.mu.Lock()
		server.away = true
		server.mu.Unlock()
		report("2")
		<-time.After(away)
		server.mu.Lock()
		server.away = false
		server.mu.Unlock()
		<-time.After(10 * time.Minute)
	})
	doc := figures.Read(t, "../../docs/scale.md")
	doc.Check(t, "most requests in one second while it is away", whole(peak(server.asked), simulated), 0.5) // a peak is chance
	doc.Check(t, "most writes in one second when it is back", whole(peak(server.writes), simulated), 0.5)
	seconds := slices.Sorted(func(yield func(int) bool) {
		for second := range server.writes {
			if !yield(second) {
				return
			}
		}
	})
	if len(seconds) == 0 || seconds[0] < int(away/time.Second) {
		t.Errorf("written while it was away: %v", seconds)
	}
}

// life is one node's writer for as long as happen takes, with the pace that it usually has.
func life(t *testing.T, happen func(report func(pod int), server *fakeCluster)) (*fakeCluster, map[Outcome]int) {
	t.Helper()
	server, came := &fakeCluster{asked: make(map[int]int), writes: make(map[int]int)}, &outcomes{of: make(map[Outcome]int)}
	synctest.Test(t, func(t *testing.T) {
		server.began = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		w := newWriter(Options{Node: "node-1", Count: came.count, Fault: func(error) {}}, usualPacing())
		w.client = server
		queue := make(chan trouble)
		var running sync.WaitGroup
		running.Go(func() { w.run(ctx, queue) })
		happen(func(pod int) {
			trouble, _ := read(staleEvent(web(pod), "2"))
			queue <- trouble
		}, server)
		cancel()
		running.Wait()
	})
	return server, came.of
}

// isAway takes the server away, or brings it back.
func (f *fakeCluster) isAway(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// A pod that flaps for hours is one Event, which is counted up less and less often.
func TestTheSameTroubleIsToldLessAndLessOften(t *testing.T) {
	server, _ := life(t, func(report func(int), _ *fakeCluster) {
		for range 8 * 60 * 60 / 10 {
			report(1)
			<-time.After(10 * time.Second)
		}
	})
	var at []int
	for second := range server.writes {
		at = append(at, second)
	}
	slices.Sort(at)
	want := 60
	for i := 1; i < len(at); i++ {
		if gap := at[i] - at[i-1]; gap < want || gap > want+20 {
			t.Errorf("write %d comes %d s after the one before, want %d and a few", i, gap, want)
		}
		want = min(2*want, 600)
	}
	if server.made != 1 || len(at) < 10 || at[0] > 6 {
		t.Errorf("%d Events, written at %d", server.made, at)
	}
}

// However long the last trouble of a pod is over, and however often the server is away for minutes: each is told.
func TestATroubleIsToldThoughItHadToWait(t *testing.T) {
	_, came := life(t, func(report func(int), _ *fakeCluster) {
		for range 3 {
			report(1)
			<-time.After(2 * time.Hour)
		}
	})
	if came[Sent] != 3 || len(came) != 1 {
		t.Errorf("troubles hours apart: %v", came)
	}
	const minutes, often = 180, 12
	_, came = life(t, func(report func(int), server *fakeCluster) {
		for i := range minutes {
			server.isAway(i%9 >= 5)
			for range often {
				report(1)
				<-time.After(time.Minute / often)
			}
		}
		server.isAway(false)
		<-time.After(15 * time.Minute)
	})
	if came[Sent] != minutes*often || len(came) != 1 {
		t.Errorf("with a server that comes and goes: %v", came)
	}
}

// What a node may write at once does not add up while it has nothing to tell.
func TestANodeThatWasQuietForLongWritesNoMoreAtOnce(t *testing.T) {
	const quiet = 5 * time.Hour
	server, _ := life(t, func(report func(int), _ *fakeCluster) {
		<-time.After(quiet)
		for pod := range 250 {
			report(pod)
		}
		<-time.After(5 * time.Minute)
	})
	if n := until(server.writes, quiet+5*time.Minute); n < 8 || n > 30 {
		t.Errorf("%d writes in five minutes, want ten and one a minute", n)
	}
}

// The pause between questions to a server that is away grows, but not without end.
func TestAServerThatWasAwayForLongIsAskedSoonAfterItIsBack(t *testing.T) {
	const away = 3 * time.Hour
	server, _ := life(t, func(report func(int), server *fakeCluster) {
		server.isAway(true)
		for pod := range int(away / time.Minute) {
			report(pod)
			<-time.After(time.Minute)
		}
		server.isAway(false)
		<-time.After(time.Hour)
		// And what was long is over.
		server.isAway(true)
		report(1000)
		<-time.After(10 * time.Second)
		server.isAway(false)
		<-time.After(time.Minute)
	})
	if n := until(server.writes, away+2*time.Minute); n == 0 {
		t.Error("not asked for two minutes")
	}
	const later = away + time.Hour
	if n := until(server.writes, later+29*time.Second) - until(server.writes, later); n != 1 {
		t.Error("another time it is not asked after a few seconds")
	}
	if n := until(server.asked, away); n > 2*int(away/time.Minute)+20 {
		t.Errorf("asked %d times while it was away", n)
	}
}
