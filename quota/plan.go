package quota

import (
	"fmt"
	"slices"
)

// MaxRequests bounds a limit: the arithmetic stays exact in a store that
// computes with 53 bits, as Redis's Lua does.
const MaxRequests = 1_000_000_000_000

// A Limit allows a number of requests in each window, of one endpoint or of all
// together. Zero Requests is a limit too: none are allowed.
type Limit struct {
	Requests int64 // 0 to MaxRequests
	Period   Period
	Endpoint string // empty: all endpoints together
}

// Name identifies the limit within its plan: "month", "image-analysis-month".
func (l Limit) Name() string {
	if l.Endpoint == "" {
		return l.Period.String()
	}
	return l.Endpoint + "-" + l.Period.String()
}

// AppliesTo reports whether a request to endpoint counts towards the limit.
func (l Limit) AppliesTo(endpoint string) bool { return l.Endpoint == "" || l.Endpoint == endpoint }

// A Counter is a number that a store keeps for each user and each window of the
// kind Per: the requests to one endpoint or, with an empty Endpoint, to all.
type Counter struct {
	Period   Period
	Endpoint string
}

// A Plan is a named list of limits, made ready for use. It is immutable and safe
// for concurrent use.
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

// PlanOptions are what a Plan is made of.
type PlanOptions struct {
	Name   string  // in the configuration
	Limits []Limit // none: its users are counted and never blocked
	// Attempts bound how often a user may try; the zero value: not at all.
	Attempts AttemptLimit
	// Observe blocks nothing: what the limits and Attempts would refuse is admitted, counted
	// and reported, see Request.InObserveMode. False: they hold.
	Observe bool
	// Endpoints are all the endpoints of the configuration: usage is reported for
	// each of them, whether it has a limit or not.
	Endpoints []string
	// WarnAt is the percentage of a limit from which the status is StatusWarning,
	// 1 to 100.
	WarnAt int
	// ReportPeriod is what usage is reported over, for a look at another kind of window; 0: the
	// window of the headline limit, or the month without one.
	ReportPeriod Period
}

// NewPlan checks limits and prepares a plan. It keeps nothing of o.
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
			return nil, fmt.Errorf("plan %s: limit %d: %v is not a kind of window", name, i, l.Period)
		case l.Requests < 0 || l.Requests > MaxRequests:
			return nil, fmt.Errorf("plan %s: limit %s: requests must be 0 to %d, got %d", name, l.Name(), int64(MaxRequests), l.Requests)
		case l.Endpoint != "" && !slices.Contains(o.Endpoints, l.Endpoint):
			return nil, fmt.Errorf("plan %s: limit %s: no route counts under this endpoint", name, l.Name())
		case slices.ContainsFunc(limits[:i], func(o Limit) bool { return o.Period == l.Period && o.Endpoint == l.Endpoint }):
			return nil, fmt.Errorf("plan %s: limit %s is given twice", name, l.Name())
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

// Limits returns the plan's limits in the order of the configuration. The caller
// must not change them.
func (p *Plan) Limits() []Limit { return p.limits }

// Endpoints returns all endpoints, sorted. The caller must not change them.
func (p *Plan) Endpoints() []string { return p.endpoints }

// ForPeriod is p for a look at windows of one kind: with only its limits for each of these,
// and with usage reported over them. Nobody is admitted by it.
func (p *Plan) ForPeriod(per Period) *Plan {
	o := PlanOptions{Name: p.name, Endpoints: p.endpoints, WarnAt: int(p.warnAt), ReportPeriod: per}
	for _, l := range p.limits {
		if l.Period == per {
			o.Limits = append(o.Limits, l)
		}
	}
	over, err := NewPlan(o)
	if err != nil {
		panic("quota: " + err.Error()) // p has passed the same checks
	}
	return over
}

// AttemptLimit bounds how often a user of the plan may try.
func (p *Plan) AttemptLimit() AttemptLimit { return p.attempts }

// Headline returns the index of the limit that X-Usage and the top of the usage
// object speak of: the first one without an endpoint. False: there is none.
func (p *Plan) Headline() (int, bool) { return p.headline, p.headline >= 0 }

// ReportPeriod is the kind of window that usage is reported over: the headline
// limit's, or the month without one, if PlanOptions did not say.
func (p *Plan) ReportPeriod() Period {
	if p.reportPeriod != 0 {
		return p.reportPeriod
	}
	if p.headline < 0 {
		return Month
	}
	return p.limits[p.headline].Period
}

// Periods returns the kinds of windows that a request of this plan is counted in,
// without repeats: those of the limits and that of the period. The caller must
// not change them.
func (p *Plan) Periods() []Period { return p.periods }

// Counters returns what a store reads to make a Snapshot, in the order that
// NewSnapshot takes: one for each limit, the period's total, and one for each
// endpoint over the period. The caller must not change them.
func (p *Plan) Counters() []Counter { return p.counters }
