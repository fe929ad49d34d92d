package scans

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"metergate/quota"
	"metergate/quota/plancheck"
)

// Plans asks how many users each plan has, and how much of their limits they have used. It is about users
// of whom something is counted in a running window.
type Plans struct{ Plans PlanSet }

// PlansPage is the answer to Plans.
type PlansPage struct {
	DefaultPlan string     `json:"default_plan"`
	Plans       []PlanPage `json:"plans"` // by name
	Progress
}

// PlanPage is a plan of PlansPage. The numbers are of users whose plan it is now.
type PlanPage struct {
	Name       string      `json:"name"`
	Limits     []PlanLimit `json:"limits"`
	Concurrent int64       `json:"concurrent,omitempty"` // requests of a user that may run at once; absent: any number
	Anchor     string      `json:"anchor,omitempty"`     // claim or first_use; absent: calendar
	Observe    bool        `json:"observe,omitempty"`    // the plan refuses nothing
	Users      int64       `json:"users"`
	Near       int64       `json:"near"`    // with the status "warning", see Row
	Blocked    int64       `json:"blocked"` // with the status "blocked"
	// Histogram counts users by the percentage of the hard limit of which the largest part is used, in steps of
	// 10; the last is for 100 and more. Users of a plan without a hard limit are in none.
	Histogram [11]int64 `json:"histogram"`
}

// PlanLimit is a limit of a plan.
type PlanLimit struct {
	Name     string       `json:"name"`
	Quantity string       `json:"quantity"` // requests or units
	Amount   int64        `json:"amount"`
	Period   quota.Period `json:"per"`
	Endpoint string       `json:"endpoint,omitempty"`
	Soft     bool         `json:"soft,omitempty"`
	Shared   bool         `json:"shared,omitempty"`
	Carry    string       `json:"carry,omitempty"` // a number, or all
}

var anchorNames = map[quota.AnchorMode]string{quota.ClaimAnchor: "claim", quota.FirstUseAnchor: "first_use"}

func newPlanPage(p *quota.Plan) PlanPage {
	page := PlanPage{Name: p.Name(), Limits: []PlanLimit{}, Concurrent: p.ConcurrencyLimit().Requests, Anchor: anchorNames[p.Anchor()], Observe: p.Observes()}
	for _, l := range p.Limits() {
		page.Limits = append(page.Limits, newPlanLimit(l))
	}
	return page
}

// MemberLimits returns the limits that each member of an organisation with the plan has alone.
func MemberLimits(p *quota.Plan) []PlanLimit {
	limits := []PlanLimit{}
	for _, l := range p.Limits() {
		if !l.Shared {
			limits = append(limits, newPlanLimit(l))
		}
	}
	return limits
}

func newPlanLimit(l quota.Limit) PlanLimit {
	limit := PlanLimit{Name: l.Name(), Quantity: l.Quantity.String(), Amount: l.Amount, Period: l.Period, Endpoint: l.Endpoint, Soft: l.Soft, Shared: l.Shared}
	switch {
	case l.Carry >= quota.MaxAmount:
		limit.Carry = "all"
	case l.Carry > 0:
		limit.Carry = strconv.FormatInt(l.Carry, 10)
	}
	return limit
}

func (p *Plans) key() string          { return "plans" }
func (p *Plans) plans() PlanSet       { return p.Plans }
func (p *Plans) keep() time.Duration  { return freshFor }
func (p *Plans) collector() collector { return newPlanTally(p.Plans) }
func (p *Plans) page(c collector, progress Progress) any {
	tally := c.(*planTally)
	page := PlansPage{DefaultPlan: tally.configured.Claimed.Name(), Progress: progress}
	for _, name := range slices.Sorted(maps.Keys(tally.byPlan)) {
		page.Plans = append(page.Plans, *tally.byPlan[name])
	}
	return page
}

func (p *Plans) fits(c collector, _ bool) bool {
	_, ok := c.(*planTally)
	return ok
}

// A planTally counts the users of each plan.
type planTally struct {
	probes
	byPlan map[string]*PlanPage
}

func newPlanTally(plans PlanSet) *planTally {
	t := &planTally{probes: probes{plans, probing(plans.ByName)}, byPlan: map[string]*PlanPage{}}
	for name, p := range plans.ByName {
		page := newPlanPage(p)
		t.byPlan[name] = &page
	}
	return t
}

func (t *planTally) add(u quota.UserSnapshot) {
	if !plancheck.Check(u.Snapshot).Active {
		return
	}
	page := t.byPlan[u.Snapshot.Plan.Name()]
	page.Users++
	switch status, _ := StatusOf(u.Snapshot); status {
	case quota.StatusBlocked:
		page.Blocked++
	case quota.StatusWarning:
		page.Near++
	}
	if _, percent, ok := u.Snapshot.Nearest(); ok {
		page.Histogram[min(percent/10, 10)]++
	}
}

// probes reads users by the plans of a configuration, with probes, see package plancheck.
type probes struct {
	configured PlanSet
	probing    map[string]*quota.Plan
}

// probing returns plans with probes. The plans have passed all checks.
func probing(plans map[string]*quota.Plan) map[string]*quota.Plan {
	probing, err := plancheck.Probing(plans)
	if err != nil {
		panic("scans: " + err.Error())
	}
	return probing
}

func (p *probes) query() quota.SnapshotQuery {
	return quota.SnapshotQuery{Plans: func(claimed string) quota.PlanChoice {
		plans := p.configured.claimedBy(claimed)
		plans.Claimed, plans.ByName = p.probing[plans.Claimed.Name()], p.probing
		return plans
	}}
}
