package quota

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// A Plan is a named list of limits, checked and prepared by NewPlan. It is immutable and
// safe for concurrent use.
type Plan struct {
	name         string
	limits       []Limit
	attempts     AttemptLimit
	concurrent   ConcurrencyLimit
	observe      bool
	soft         bool // one of the limits is
	carries      bool // one of the limits does
	anchor       AnchorMode
	isPool       bool // it is that of pools, see ForScope
	endpoints    []string
	costs        map[string]Cost
	unitName     string
	warnAt       int64
	notifyAt     []int
	headline     int    // index into limits, -1: none
	reportPeriod Period // see PlanOptions
	periods      []Period
	poolPeriods  []Period
	counters     []Counter
	// forUser and forPool are the plan without its shared limits, and with these alone.
	forUser, forPool *Plan
}

// PlanOptions describe a plan.
type PlanOptions struct {
	Name   string  // in the configuration
	Limits []Limit // empty: users are counted and never refused
	// Attempts bounds how often a user may try; the zero value is no bound.
	Attempts AttemptLimit
	// Concurrent bounds the requests of a user that run at once; the zero value is no bound.
	Concurrent ConcurrencyLimit
	// Observe puts the plan in observe mode: requests that its limits, Attempts or Concurrent
	// would refuse are admitted, counted and reported, see Request.InObserveMode.
	Observe bool
	// Endpoints has every endpoint of the configuration: usage is reported for each of
	// them, whether it has a limit or not.
	Endpoints []string
	// Costs has what requests to the endpoints may cost; an endpoint that is missing costs one
	// unit. nil: nothing in the configuration is about units, and usage does not report them.
	Costs map[string]Cost
	// UnitName is what the UI calls a unit; empty: it is not given.
	UnitName string
	// Anchor says on which day the months and years of the plan's users begin.
	Anchor AnchorMode
	// WarnAt is the percentage of a limit from which the status is StatusWarning, 1 to 100.
	WarnAt int
	// NotifyAt has the thresholds whose Crossings stores record, in percent of each limit, 1 to MaxThreshold; empty:
	// they record none.
	NotifyAt []int
	// ReportPeriod is the period that usage is reported over; 0: that of the headline
	// limit, or the month if there is none.
	ReportPeriod Period
}

// NewPlan checks the options and prepares a plan. It keeps no reference to o. The error
// says which option is wrong; it is meant for whoever writes the configuration.
//
// The plan is that of a member of an organisation. ForScope has the others.
func NewPlan(o PlanOptions) (*Plan, error) {
	p, err := newPlan(o, MemberScope)
	if err != nil {
		return nil, err
	}
	var own, shared []Limit
	for _, l := range o.Limits {
		if l.Shared {
			shared = append(shared, l)
		} else {
			own = append(own, l)
		}
	}
	p.forUser = p
	if len(shared) > 0 {
		o.Limits = own
		if p.forUser, err = newPlan(o, UserScope); err != nil {
			return nil, err
		}
	}
	o.Limits, o.Attempts, o.Concurrent = shared, AttemptLimit{}, ConcurrencyLimit{}
	if p.forPool, err = newPlan(o, PoolScope); err != nil {
		return nil, err
	}
	if len(shared) > 0 {
		p.poolPeriods = p.forPool.periods
	}
	return p, nil
}

// ForScope returns the plan as it applies to accounts of a scope: to users without its shared
// limits, to pools with the shared limits alone.
func (p *Plan) ForScope(s Scope) *Plan {
	switch {
	case s == UserScope && p.forUser != nil:
		return p.forUser
	case s == PoolScope && p.forPool != nil:
		return p.forPool
	}
	return p
}

// newPlan prepares a plan with those of the limits that apply to a scope.
func newPlan(o PlanOptions, scope Scope) (*Plan, error) {
	name, limits := o.Name, o.Limits
	if o.WarnAt < 1 || o.WarnAt > 100 {
		return nil, fmt.Errorf("plan %s: warning threshold must be 1 to 100 percent, got %d", name, o.WarnAt)
	}
	if err := o.Attempts.validate(); err != nil {
		return nil, fmt.Errorf("plan %s: attempts: %w", name, err)
	}
	if err := o.Concurrent.validate(); err != nil {
		return nil, fmt.Errorf("plan %s: concurrent: %w", name, err)
	}
	for _, t := range o.NotifyAt {
		if t < 1 || t > MaxThreshold {
			return nil, fmt.Errorf("plan %s: thresholds of notifications must be 1 to %d percent, got %d", name, MaxThreshold, t)
		}
	}
	p := &Plan{
		name:         name,
		limits:       slices.Clone(limits),
		attempts:     o.Attempts,
		concurrent:   o.Concurrent,
		anchor:       o.Anchor,
		isPool:       scope == PoolScope,
		observe:      o.Observe,
		endpoints:    slices.Clone(o.Endpoints),
		costs:        maps.Clone(o.Costs),
		unitName:     o.UnitName,
		warnAt:       int64(o.WarnAt),
		notifyAt:     slices.Compact(slices.Sorted(slices.Values(o.NotifyAt))),
		reportPeriod: o.ReportPeriod,
		headline:     headlineOf(limits),
	}
	slices.Sort(p.endpoints)
	for i, l := range limits {
		switch {
		case !l.Period.IsPeriod():
			return nil, fmt.Errorf("plan %s: limit %d: %v is not a period", name, i, l.Period)
		case l.Quantity > Units:
			return nil, fmt.Errorf("plan %s: limit %d: Quantity(%d) is not a quantity", name, i, l.Quantity)
		case l.Amount < 0 || l.Amount > MaxAmount:
			return nil, fmt.Errorf("plan %s: limit %s: %s must be 0 to %d, got %d", name, l.Name(), l.Quantity, int64(MaxAmount), l.Amount)
		case l.Carry < 0 || l.Carry > MaxAmount:
			return nil, fmt.Errorf("plan %s: limit %s: carry must be 0 to %d, got %d", name, l.Name(), int64(MaxAmount), l.Carry)
		case l.Carry > 0 && (l.Period <= Hour || l.Period == Ever || l.Soft):
			return nil, fmt.Errorf("plan %s: limit %s: only a limit per day, week, month or year that is not soft can carry", name, l.Name())
		case l.Endpoint != "" && !slices.Contains(o.Endpoints, l.Endpoint):
			return nil, fmt.Errorf("plan %s: limit %s: no route has this endpoint", name, l.Name())
		case slices.ContainsFunc(limits[:i], func(o Limit) bool { return o.Counter() == l.Counter() && o.Soft == l.Soft }):
			return nil, fmt.Errorf("plan %s: limit %s is listed twice", name, l.Name())
		}
		p.soft, p.carries = p.soft || l.Soft, p.carries || l.Carry > 0
		c := l.Counter()
		c.Shared = c.Shared && scope == MemberScope // a pool has no other numbers
		p.counters = append(p.counters, c)
	}
	total := Counter{Period: p.ReportPeriod(), Quantity: p.HeadlineQuantity()}
	if p.headline >= 0 {
		total.Shared = p.counters[p.headline].Shared
	}
	p.counters = append(p.counters, total)
	for _, e := range p.endpoints {
		p.counters = append(p.counters, Counter{Period: p.ReportPeriod(), Endpoint: e})
	}
	if p.ReportsUnits() {
		for _, e := range p.endpoints {
			p.counters = append(p.counters, Counter{Period: p.ReportPeriod(), Endpoint: e, Quantity: Units})
		}
	}
	for _, c := range p.counters {
		if !c.Shared && !slices.Contains(p.periods, c.Period) {
			p.periods = append(p.periods, c.Period)
		}
	}
	return p, nil
}

// headlineOf returns the index of the first limit without an endpoint, or -1. Hard ones go before soft ones, and then a member's own before shared ones.
func headlineOf(limits []Limit) int {
	best := -1
	for i, l := range limits {
		if l.Endpoint != "" {
			continue
		}
		if best < 0 || limits[best].Soft && !l.Soft || limits[best].Soft == l.Soft && limits[best].Shared && !l.Shared {
			best = i
		}
	}
	return best
}

// Name is the plan's name in the configuration.
func (p *Plan) Name() string { return p.name }

// Limits returns the plan's limits in the order of the configuration. Callers must not
// modify the slice.
func (p *Plan) Limits() []Limit { return p.limits }

// Endpoints returns all endpoints, sorted. Callers must not modify the slice.
func (p *Plan) Endpoints() []string { return p.endpoints }

// options are those by which p was made.
func (p *Plan) options() PlanOptions {
	return PlanOptions{
		Name: p.name, Limits: p.limits, Attempts: p.attempts, Concurrent: p.concurrent, Observe: p.observe, Endpoints: p.endpoints, Costs: p.costs,
		UnitName: p.unitName, Anchor: p.anchor, WarnAt: int(p.warnAt), NotifyAt: p.notifyAt, ReportPeriod: p.reportPeriod,
	}
}

// ForPeriod is p for reading windows of one period: it has only the limits of that
// period, and reports usage over it. It must not be used to reserve.
func (p *Plan) ForPeriod(period Period) *Plan {
	o := p.options()
	o.Limits, o.Attempts, o.Concurrent, o.Observe, o.ReportPeriod = nil, AttemptLimit{}, ConcurrencyLimit{}, false, period
	for _, l := range p.limits {
		if l.Period == period {
			o.Limits = append(o.Limits, l)
		}
	}
	narrowed, err := NewPlan(o)
	if err != nil {
		panic("quota: " + err.Error()) // p has passed the same checks
	}
	return narrowed
}

// WithLimits is p with other limits, and over the same report period.
func (p *Plan) WithLimits(limits []Limit) (*Plan, error) {
	o := p.options()
	o.Limits, o.ReportPeriod = limits, p.ReportPeriod()
	return NewPlan(o)
}

// AttemptLimit is how often a user of the plan may try.
func (p *Plan) AttemptLimit() AttemptLimit { return p.attempts }

// ConcurrencyLimit bounds the requests of a user of the plan that run at once.
func (p *Plan) ConcurrencyLimit() ConcurrencyLimit { return p.concurrent }

// Anchor says on which day the months and years of the plan's users begin.
func (p *Plan) Anchor() AnchorMode { return p.anchor }

// Observes reports whether the plan is in observe mode: it refuses nothing.
func (p *Plan) Observes() bool { return p.observe }

// Cost is what a request to endpoint may be charged. If several routes count under the
// endpoint, it spans what they cost.
func (p *Plan) Cost(endpoint string) Cost {
	if c, ok := p.costs[endpoint]; ok {
		return c
	}
	return Cost{Min: 1, Max: 1}
}

// UnitName is what a number of units is called: PlanOptions.UnitName, or "units".
func (p *Plan) UnitName() string { return cmp.Or(p.unitName, Units.String()) }

// NotifyAt has the thresholds at which stores record Crossings, ascending, in percent; empty: there are
// none. Callers must not modify the slice.
func (p *Plan) NotifyAt() []int { return p.notifyAt }

// ReportsUnits reports whether the usage of the plan is reported in units as well, see
// PlanOptions.Costs.
func (p *Plan) ReportsUnits() bool { return p.costs != nil }

// Headline returns the index of the headline limit, the one that X-Usage and the top of
// the usage object report: the first limit without an endpoint. Hard limits go before soft ones,
// and then a member's own limits before shared ones. It returns false if the plan has no such limit.
func (p *Plan) Headline() (int, bool) { return p.headline, p.headline >= 0 }

// HeadlineQuantity is that of the headline limit, or Requests if there is none.
func (p *Plan) HeadlineQuantity() Quantity {
	if p.headline < 0 {
		return Requests
	}
	return p.limits[p.headline].Quantity
}

// ReportPeriod is the period that usage is reported over, see PlanOptions.ReportPeriod.
func (p *Plan) ReportPeriod() Period {
	if p.reportPeriod != 0 {
		return p.reportPeriod
	}
	if p.headline < 0 {
		return Month
	}
	return p.limits[p.headline].Period
}

// Periods returns the periods in whose windows a request of this plan is counted, each
// once: those of the limits and the report period. Callers must not modify the slice.
func (p *Plan) Periods() []Period { return p.periods }

// PoolPeriods are likewise those in whose windows a member's request is counted in the organisation's
// pool: the Periods of the pool's plan, or none without shared limits.
func (p *Plan) PoolPeriods() []Period { return p.poolPeriods }

// PoolNeedsTerms reports whether a member's request counts by the Terms of the pool: a shared limit
// carries, or is counted in months or years, which an anchor moves.
func (p *Plan) PoolNeedsTerms() bool {
	pool := p.ForScope(PoolScope)
	return len(pool.limits) > 0 && (pool.carries || slices.Contains(pool.periods, Month) || slices.Contains(pool.periods, Year))
}

// Counters returns what a store reads to make a Snapshot, in the order that NewSnapshot
// expects: one for each limit; the total over the report period, in the headline's quantity;
// the requests to each endpoint over the report period; and, if ReportsUnits, their units. A
// hard and a soft limit may have the same counter. Callers must not modify the slice.
func (p *Plan) Counters() []Counter { return p.counters }
