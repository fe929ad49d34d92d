package quota

import "math"

// MaxCost is the most units that one request can cost.
const MaxCost = 1_000_000_000

// A Cost says what a request may be charged, in units. The zero value is one unit.
type Cost struct {
	Min int64 `json:"min"` // charged at least, when the request succeeds: 0 to Max
	Max int64 `json:"max"` // held before the request is forwarded, and charged at most: 1 to MaxCost; 0 stands for 1
}

// MaxUnits is what a request with this cost holds: Max, at least 1.
func (c Cost) MaxUnits() int64 { return max(1, c.Max) }

// Charge returns what a request is charged of which the upstream has reported an amount, if
// one unit stands for each so many of it: min(Max, max(Min, reported/each rounded up)).
// reported must be 0 or more, each 1 or more. math.MaxInt64 stands for amounts without a bound, and
// is charged Max.
func (c Cost) Charge(reported, each int64) int64 {
	if reported == math.MaxInt64 {
		return c.MaxUnits()
	}
	units := reported / each
	if reported%each > 0 {
		units++
	}
	return min(c.MaxUnits(), max(c.Min, units))
}
