// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/neighpin/neighpin/e2e/internal/await"
	"github.com/neighpin/neighpin/e2e/internal/descriptors"
	"github.com/neighpin/neighpin/e2e/internal/enclosure"
	"github.com/neighpin/neighpin/e2e/internal/node"
	"github.com/neighpin/neighpin/e2e/internal/setup"
)

// What the environment says about a run: its form, "full" or "bounded" (the default), and the seed to draw from, if not any.
const (
	formEnv = "NEIGHPIN_CHAOS"
	seedEnv = "NEIGHPIN_CHAOS_SEED"
)

// form is how much goes wrong.
type form struct {
	name string
	// gvisor, kernel and bridged are the pods that stay, by what they are.
	gvisor, kernel, bridged int
	// rounds end with a look at everything. In each, so many faults are made, by so many hands, and so many pods come and go, so many of
	// them at a time; containerd is killed once, and neighpin so often, but in the last round.
	rounds, faults, hands, pods, atATime, kills int
}

var forms = map[string]form{
	"bounded": {name: "bounded", gvisor: 2, kernel: 3, bridged: 2, rounds: 2, faults: 40, hands: 3, pods: 8, atATime: 4, kills: 8},
	"full":    {name: "full", gvisor: 4, kernel: 6, bridged: 4, rounds: 11, faults: 100, hands: 4, pods: 46, atATime: 30, kills: 20},
}

// bed is the node of this package's tests.
var bed struct {
	*node.Node
	form    form
	seed    uint64
	figures []string // printed when all tests are over
	network *os.File // the node's namespace
}

func TestMain(m *testing.M) {
	os.Exit(enclosure.Main(prepare, func() int { return run(m) }))
}

// prepare builds what is missing, outside the enclosure, where the Go command reaches its modules.
func prepare(ctx context.Context) ([]string, error) {
	programs, err := setup.All(ctx, os.Stderr, setup.Newest)
	if err != nil {
		return nil, err
	}
	if err := buildBreakable(ctx, programs); err != nil {
		return nil, err
	}
	return programs.Environment()
}

func run(m *testing.M) int {
	ctx := context.Background()
	before, err := descriptors.Open("self")
	if err == nil {
		bed.network, err = os.Open("/proc/thread-self/ns/net")
	}
	if err == nil {
		defer bed.network.Close()
		err = choose()
	}
	var programs setup.Programs
	if err == nil {
		programs, err = setup.FromEnvironment()
	}
	if err == nil {
		bed.Node, err = node.Start(ctx, programs, node.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	fmt.Printf("figure: chaos: %s form, seed %d (%s=%d draws the same)\n", bed.form.name, bed.seed, seedEnv, bed.seed)
	code := m.Run()
	for _, figure := range bed.figures {
		fmt.Println("figure:", figure)
	}
	if err := bed.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: close the node:", err)
		code = max(code, 1)
	}
	// klog flushes its log for as long as the process lives.
	err = await.Within(ctx, patience, "all goroutines to end", func() error {
		return goleak.Find(goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		code = max(code, 1)
	}
	bed.network.Close()
	if err := descriptors.Closed(ctx, patience, before); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		code = max(code, 1)
	}
	return code
}

// choose takes form and seed from the environment.
func choose() error {
	name := os.Getenv(formEnv)
	if name == "" {
		name = "bounded"
	}
	var ok bool
	if bed.form, ok = forms[name]; !ok {
		return fmt.Errorf("%s is %q, want full or bounded", formEnv, name)
	}
	bed.seed = uint64(rand.Uint32())
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if bed.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("parse %s: %w", seedEnv, err)
		}
	}
	return nil
}

// figuref keeps a line that `make` shows also when all is well: only what is printed outside of tests is.
func figuref(format string, args ...any) {
	bed.figures = append(bed.figures, fmt.Sprintf(format, args...))
}
