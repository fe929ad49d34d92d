package quota

import "math"

// MaxAmount is the largest limit, the largest count and the largest grant, in requests or
// units. It keeps the arithmetic exact in stores that compute with 53 bits, such as Redis's
// Lua.
const MaxAmount = 1_000_000_000_000

// A Quantity is what a limit counts.
type Quantity uint8

// The quantities. Units used = requests + extra, where extra is the sum of (charged units - 1)
// over the requests that were counted.
const (
	Requests Quantity = iota // the zero value: each request is one
	Units                    // what requests cost, see Cost
)

// String returns "requests" or "units".
func (q Quantity) String() string {
	if q == Units {
		return "units"
	}
	return "requests"
}

// A Limit allows an amount in each window of a period, to one endpoint or to all of them
// together. A limit of 0 allows no request.
type Limit struct {
	Amount   int64 // of the Quantity, 0 to MaxAmount
	Period   Period
	Endpoint string // empty: all endpoints together
	Quantity Quantity
	// Soft: the limit refuses nobody. What is used above it is counted and reported.
	Soft bool
	// Shared: the limit is for all members of an organisation together, and counts in its pool.
	// It does not apply to users without an organisation.
	Shared bool
	// Carry is how much of what was left moves on to the next window of the limit, once: 0, the
	// zero value, to MaxAmount, which stands for all. Only for limits per Day to Year that are
	// not soft.
	Carry int64
}

// Name identifies the limit within its plan: "month", "image-analysis-month", "month-units",
// "month-soft", "shared-month".
func (l Limit) Name() string {
	name := l.Period.String()
	if l.Endpoint != "" {
		name = l.Endpoint + "-" + name
	}
	if l.Shared {
		name = "shared-" + name
	}
	if l.Quantity == Units {
		name += "-units"
	}
	if l.Soft {
		name += "-soft"
	}
	return name
}

// AppliesTo reports whether a request to endpoint counts towards the limit. An empty
// endpoint stands for a request to one that has no limit of its own.
func (l Limit) AppliesTo(endpoint string) bool { return l.Endpoint == "" || l.Endpoint == endpoint }

// Counter is what the limit compares with its amount, in the plan of a member.
func (l Limit) Counter() Counter { return Counter{l.Period, l.Endpoint, l.Quantity, l.Shared} }

// A Counter identifies a number that a store keeps for each account and each window of a
// period: what was used of one endpoint or, with an empty Endpoint, of all.
type Counter struct {
	Period   Period
	Endpoint string
	Quantity Quantity
	// Shared: it is one of the pool of a member's organisation, and not of the member. No other
	// account has such counters: the numbers of a pool are its own.
	Shared bool
}

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
