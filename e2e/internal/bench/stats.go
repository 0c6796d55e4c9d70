// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
	"time"
)

// Summary describes a set of durations, in microseconds.
type Summary struct {
	N    int     `json:"n"`
	Min  float64 `json:"min_us"`
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"` // of fewer than a hundred the greatest
	Max  float64 `json:"max_us"`
	Mean float64 `json:"mean_us"`
}

// Summarize describes samples; it sorts them. None give the zero Summary.
func Summarize(samples []time.Duration) Summary {
	if len(samples) == 0 {
		return Summary{}
	}
	slices.Sort(samples)
	var sum time.Duration
	for _, s := range samples {
		sum += s
	}
	at := func(q float64) float64 { return microseconds(samples[rank(len(samples), q)]) }
	return Summary{N: len(samples), Min: at(0), P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1),
		Mean: microseconds(sum) / float64(len(samples))}
}

// rank is the place of a quantile among n sorted samples: the least that at least that share does not exceed.
func rank(n int, q float64) int { return max(0, int(math.Ceil(q*float64(n)))-1) }

// Median is the middle of values, which it sorts; of an even number the lower. None give zero.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[rank(len(values), 0.5)]
}

// NewRow makes a contender's row.
func NewRow(name string, samples []time.Duration, values ...Value) Row {
	samples = slices.Clone(samples)
	return Row{Name: name, Latency: Summarize(samples), Values: values, samples: samples}
}

// PairedRatio is the median of the ratios of pairs, which are the values at the same places, with its 95 % confidence interval: that
// between two order statistics, which holds whatever the distribution is (the number of ratios below the true median is
// binomial). Six pairs are the fewest that have one; of fewer, or of unequal numbers, all three are zero.
func PairedRatio(of, to []time.Duration) (median, low, high float64) {
	n := len(of)
	if n < 6 || n != len(to) {
		return 0, 0, 0
	}
	ratios := make([]float64, n)
	for i := range ratios {
		ratios[i] = float64(of[i]) / float64(to[i])
	}
	slices.Sort(ratios)
	// The greatest k of which at most 2.5 % of all draws have fewer than k on one side.
	k, sum, chance := 0, 0.0, math.Pow(0.5, float64(n))
	if chance == 0 { // too many for a float64: the normal distribution is near enough
		k = int(float64(n)/2 - 1.96*math.Sqrt(float64(n))/2)
	} else {
		for sum+chance <= 0.025 {
			sum += chance
			chance *= float64(n-k) / float64(k+1)
			k++
		}
	}
	middle := ratios[n/2]
	if n%2 == 0 {
		middle = (middle + ratios[n/2-1]) / 2
	}
	return middle, ratios[k-1], ratios[n-k]
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
