// SPDX-License-Identifier: Apache-2.0

package pairs

import (
	"context"
	"time"

	"github.com/neighpin/neighpin/e2e/internal/bench"
)

const (
	// sides is how many parts of the pairs there are, between which neighpin may change the node: A, B, B, A.
	sides = 4
	// together is how many pairs of each sort are there at once, before all are removed.
	together = 4
)

// blocks runs pairs in blocks.
type blocks struct {
	env   bench.Env
	nodes [2]*remote
	sorts []sort
	// neighpin is on one node; else, for a control, on none.
	neighpin bool
	// limit is what each side may take. On a busy machine there are fewer pairs.
	limit time.Duration
}

// run starts so many pairs of each sort.
func (b blocks) run(ctx context.Context, what string, pairs int) (all []series, err error) {
	all = make([]series, len(b.sorts))
	done := 0
	for side := range sides {
		holder := [sides]int{0, 1, 1, 0}[side]
		if b.neighpin {
			if _, err := b.nodes[holder].do(order{Do: doPin}); err != nil {
				return nil, err
			}
		}
		began := time.Now()
		for until := done + share(pairs, side); done < until && time.Since(began) < b.limit; {
			n := min(together, until-done)
			if err := b.some(ctx, all, holder, done, n); err != nil {
				return nil, err
			}
			done += n
		}
		b.env.Say("%d of %d %s", done, pairs, what)
		if b.neighpin {
			if _, err := b.nodes[holder].do(order{Do: doUnpin}); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// share is how many of the pairs a side has.
func share(pairs, side int) int { return pairs*(side+1)/sides - pairs*side/sides }

// some starts a few pairs, of which the first has that number, and removes them.
func (b blocks) some(ctx context.Context, all []series, holder, first, n int) error {
	for pair := first; pair < first+n; pair++ {
		for i, of := range b.sorts {
			if err := ctx.Err(); err != nil {
				return err
			}
			var took [2]start // with neighpin, without
			for turn := range 2 {
				without := (turn + pair) % 2
				a, err := b.nodes[(holder+without)%2].do(order{Do: doStart, Pod: of})
				if err != nil {
					return err
				}
				took[without] = a.Start
			}
			all[i].with, all[i].without = append(all[i].with, took[0]), append(all[i].without, took[1])
		}
	}
	return both(b.nodes, order{Do: doRemove})
}
