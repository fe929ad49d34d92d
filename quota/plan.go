package quota

import (
	"fmt"
	"slices"
)

// A Plan is a named list of limits, checked and prepared by NewPlan. It is immutable and
// safe for concurrent use.
type Plan struct {
	name         string
	limits       []Limit
	attempts     AttemptLimit
	observe      bool
	endpoints    []string
	warnAt       int64
	headline     int    // index into limits, -1: none
	reportPeriod Period // see PlanOptions
	periods      []Period
	counters     []Counter
}

// PlanOptions describe a plan.
type PlanOptions struct {
	Name   string  // in the configuration
	Limits []Limit // empty: users are counted and never refused
	// Attempts bounds how often a user may try; the zero value is no bound.
	Attempts AttemptLimit
	// Observe puts the plan in observe mode: requests that its limits or Attempts would
	// refuse are admitted, counted and reported, see Request.InObserveMode.
	Observe bool
	// Endpoints has every endpoint of the configuration: usage is reported for each of
	// them, whether it has a limit or not.
	Endpoints []string
	// WarnAt is the percentage of a limit from which the status is StatusWarning, 1 to 100.
	WarnAt int
	// ReportPeriod is the period that usage is reported over; 0: that of the headline
	// limit, or the month if there is none.
	ReportPeriod Period
}

// NewPlan checks the options and prepares a plan. It keeps no reference to o. The error
// says which option is wrong; it is meant for whoever writes the configuration.
func NewPlan(o PlanOptions) (*Plan, error) {
	name, limits := o.Name, o.Limits
	if o.WarnAt < 1 || o.WarnAt > 100 {
		return nil, fmt.Errorf("plan %s: warning threshold must be 1 to 100 percent, got %d", name, o.WarnAt)
	}
	if err := o.Attempts.validate(); err != nil {
		return nil, fmt.Errorf("plan %s: attempts: %w", name, err)
	}
	p := &Plan{
		name:         name,
		limits:       slices.Clone(limits),
		attempts:     o.Attempts,
		observe:      o.Observe,
		endpoints:    slices.Clone(o.Endpoints),
		warnAt:       int64(o.WarnAt),
		reportPeriod: o.ReportPeriod,
		headline:     slices.IndexFunc(limits, func(l Limit) bool { return l.Endpoint == "" }),
	}
	slices.Sort(p.endpoints)
	for i, l := range limits {
		switch {
		case l.Period < Minute || l.Period > Year:
			return nil, fmt.Errorf("plan %s: limit %d: %v is not a period", name, i, l.Period)
		case l.Requests < 0 || l.Requests > MaxRequests:
			return nil, fmt.Errorf("plan %s: limit %s: requests must be 0 to %d, got %d", name, l.Name(), int64(MaxRequests), l.Requests)
		case l.Endpoint != "" && !slices.Contains(o.Endpoints, l.Endpoint):
			return nil, fmt.Errorf("plan %s: limit %s: no route has this endpoint", name, l.Name())
		case slices.ContainsFunc(limits[:i], func(o Limit) bool { return o.Period == l.Period && o.Endpoint == l.Endpoint }):
			return nil, fmt.Errorf("plan %s: limit %s is listed twice", name, l.Name())
		}
		p.counters = append(p.counters, Counter{l.Period, l.Endpoint})
	}
	p.counters = append(p.counters, Counter{Period: p.ReportPeriod()})
	for _, e := range p.endpoints {
		p.counters = append(p.counters, Counter{p.ReportPeriod(), e})
	}
	for _, c := range p.counters {
		if !slices.Contains(p.periods, c.Period) {
			p.periods = append(p.periods, c.Period)
		}
	}
	return p, nil
}

// Name is the plan's name in the configuration.
func (p *Plan) Name() string { return p.name }

// Limits returns the plan's limits in the order of the configuration. Callers must not
// modify the slice.
func (p *Plan) Limits() []Limit { return p.limits }

// Endpoints returns all endpoints, sorted. Callers must not modify the slice.
func (p *Plan) Endpoints() []string { return p.endpoints }

// ForPeriod is p for reading windows of one period: it has only the limits of that
// period, and reports usage over it. It must not be used to reserve.
func (p *Plan) ForPeriod(period Period) *Plan {
	o := PlanOptions{Name: p.name, Endpoints: p.endpoints, WarnAt: int(p.warnAt), ReportPeriod: period}
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

// AttemptLimit is how often a user of the plan may try.
func (p *Plan) AttemptLimit() AttemptLimit { return p.attempts }

// Headline returns the index of the headline limit, the one that X-Usage and the top of
// the usage object report: the first limit without an endpoint. It returns false if there
// is none.
func (p *Plan) Headline() (int, bool) { return p.headline, p.headline >= 0 }

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

// Counters returns what a store reads to make a Snapshot, in the order that NewSnapshot
// expects: one for each limit, the total over the report period, and one for each endpoint
// over the report period. Callers must not modify the slice.
func (p *Plan) Counters() []Counter { return p.counters }
