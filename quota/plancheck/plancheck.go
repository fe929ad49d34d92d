// Package plancheck has the rules by which users are compared with the limits of plans: whom they block
// now, and whom other numbers would block. `metergate plan-check` and GET /admin/plans/check go by them.
//
// The rules work on a quota.Snapshot of what is counted. What running requests hold is left out: it is
// gone in a moment. A Snapshot of a plan does not say what a user has used in the windows of other plans.
// So that it does, it is read by the plan that [Probing] returns.
package plancheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"metergate/quota"
)

// Periods returns the periods in whose windows something may be counted under plans: those of their
// limits, and the month, which is counted for users without a limit too.
func Periods(plans map[string]*quota.Plan) []quota.Period {
	periods := map[quota.Period]bool{quota.Month: true}
	for _, p := range plans {
		for _, l := range p.Limits() {
			periods[l.Period] = true
		}
	}
	return slices.Sorted(maps.Keys(periods))
}

// Probing returns plans with soft limits that nobody reaches behind their own: on each endpoint and on
// all, in each of the Periods. So a Snapshot says what was used there. The plans must not be used to
// reserve.
func Probing(plans map[string]*quota.Plan) (map[string]*quota.Plan, error) {
	probing := make(map[string]*quota.Plan, len(plans))
	for name, p := range plans {
		limits := slices.Clone(p.Limits())
		for _, period := range Periods(plans) {
			for _, endpoint := range append([]string{""}, p.Endpoints()...) {
				probe := quota.Limit{Amount: quota.MaxAmount, Period: period, Endpoint: endpoint, Soft: true}
				if !slices.ContainsFunc(limits, func(l quota.Limit) bool { return l.Soft && l.Counter() == probe.Counter() }) {
					limits = append(limits, probe)
				}
			}
		}
		var err error
		if probing[name], err = p.WithLimits(limits); err != nil {
			return nil, err
		}
	}
	return probing, nil
}

// A Finding is what the rules say of one user.
type Finding struct {
	// Active: something is counted of the user in a running window.
	Active bool
	// Reached are the hard limits that refuse a request to some endpoint.
	Reached []Reached
	// AboveSoft: more is used than a soft limit says.
	AboveSoft bool
}

// A Reached is a limit that leaves a user too little for another request.
type Reached struct {
	quota.Limit
	Used int64
	Of   int64 // what the limit allows, with what was granted and carried
	// Endpoints are those to which it refuses requests, without those that the user has not used: they
	// would not notice. nil: it refuses all.
	Endpoints []string
}

// Check applies the rules to a user's state, by a plan of Probing.
func Check(s quota.Snapshot) Finding {
	var f Finding
	p := s.Plan
	used := usedEndpoints(s)
	for i, l := range p.Limits() {
		n, of := s.Limits[i].Used, s.Allowance(i)
		if l.Soft {
			f.AboveSoft = f.AboveSoft || n > of
			f.Active = f.Active || n > 0 && !l.Shared
			continue
		}
		if r, ok := reached(l, p, n, of, used); ok {
			f.Reached = append(f.Reached, r)
		}
	}
	return f
}

// usedEndpoints are those that the user has used in a running window.
func usedEndpoints(s quota.Snapshot) map[string]bool {
	used := map[string]bool{}
	for i, l := range s.Plan.Limits() {
		if !l.Shared && s.Limits[i].Used > 0 {
			used[l.Endpoint] = true
		}
	}
	return used
}

// reached says whether a limit leaves too little for the next request, which may cost what its endpoint
// says, see quota.Snapshot.Admits.
func reached(l quota.Limit, p *quota.Plan, n, of int64, used map[string]bool) (Reached, bool) {
	left, r := of-n, Reached{Limit: l, Used: n, Of: of}
	all := l.Endpoint == "" && (left < 1 || len(p.Endpoints()) > 0)
	for _, endpoint := range p.Endpoints() {
		switch {
		case !l.AppliesTo(endpoint):
		case amountOf(l, p.Cost(endpoint)) <= left:
			all = false
		case used[endpoint]:
			r.Endpoints = append(r.Endpoints, endpoint)
		}
	}
	if all {
		r.Endpoints = nil
	}
	return r, all || r.Endpoints != nil
}

// amountOf is what a request with this cost must find in a limit.
func amountOf(l quota.Limit, c quota.Cost) int64 {
	if l.Quantity == quota.Units {
		return c.MaxUnits()
	}
	return 1
}

// Refused says which requests a limit of the plan p refuses.
func (r *Reached) Refused(p *quota.Plan) string {
	if r.Endpoints == nil {
		return "all"
	}
	var texts []string
	for _, endpoint := range r.Endpoints {
		if cost := amountOf(r.Limit, p.Cost(endpoint)); cost > 1 {
			endpoint += fmt.Sprintf(" (costs %d)", cost)
		}
		texts = append(texts, endpoint)
	}
	return strings.Join(texts, ", ")
}

// A Severity says how much a user is blocked.
type Severity int

// The severities, ascending.
const (
	Free       Severity = iota // nothing that the user does is refused
	OnEndpoint                 // requests to an endpoint that the user has used
	Blocked                    // all requests
)

// Severity is that of what was found.
func (f *Finding) Severity() Severity {
	switch {
	case len(f.Reached) == 0:
		return Free
	case slices.ContainsFunc(f.Reached, func(r Reached) bool { return r.Endpoints == nil }):
		return Blocked
	}
	return OnEndpoint
}

// A Count counts the active users of a plan.
type Count struct {
	Users      int
	Blocked    int // of Users
	OnEndpoint int // of Users, beside Blocked
	AboveSoft  int // of Users, blocked or not
}

// Add counts a user.
func (c *Count) Add(f *Finding) {
	c.Users++
	switch f.Severity() {
	case Blocked:
		c.Blocked++
	case OnEndpoint:
		c.OnEndpoint++
	}
	if f.AboveSoft {
		c.AboveSoft++
	}
}

// Under is a state as it would be if the user's plan were p, which has the same limits with other amounts.
func Under(s quota.Snapshot, p *quota.Plan) quota.Snapshot {
	s.Plan, s.Limits = p, slices.Clone(s.Limits)
	for i, l := range p.Limits() {
		terms := s.Terms
		if l.Shared && s.Pool != nil {
			terms = s.Pool.Terms
		}
		s.Limits[i].Carried, _ = terms.Carried(s.Limits[i].Window.ID, l)
	}
	return s
}
