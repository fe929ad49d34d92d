package scans

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"metergate/quota"
	"metergate/quota/plancheck"
)

// maxShown is how many of the users who would be blocked a CheckPage shows.
const maxShown = 100

// Check asks whom the plans block now, and whom they would block after some changes.
type Check struct {
	Plans   PlanSet
	changes []plancheck.Change
	changed map[string]*quota.Plan
}

// NewCheck returns a Check of the plans with some changes. The error says which of these is wrong.
func NewCheck(plans PlanSet, changes []plancheck.Change) (*Check, error) {
	changed, err := plancheck.Apply(plans.ByName, changes)
	if err != nil {
		return nil, err
	}
	return &Check{plans, changes, changed}, nil
}

// CheckPage is the answer to a Check.
type CheckPage struct {
	Plans        []CheckedPlan `json:"plans"` // by name
	NewlyBlocked int64         `json:"newly_blocked"`
	Freed        int64         `json:"freed"`
	Users        []CheckedUser `json:"users"` // the first of those who are newly blocked, by their ids
	Progress
	YAML string `json:"yaml"` // what to paste into the configuration; empty: nothing is changed
}

// CheckedPlan counts the users of a plan of whom something is counted in a running window, by the rules of
// package plancheck, as the plans are now and as they would be then.
type CheckedPlan struct {
	Name           string `json:"name"`
	Users          int    `json:"users"`
	BlockedNow     int    `json:"blocked_now"`
	BlockedThen    int    `json:"blocked_then"`
	OnEndpointNow  int    `json:"on_endpoint_now"`
	OnEndpointThen int    `json:"on_endpoint_then"`
	AboveSoftNow   int    `json:"above_soft_now"`
	AboveSoftThen  int    `json:"above_soft_then"`
}

// CheckedUser is a user who would be blocked, or blocked on more endpoints' requests, and the first limit
// that would do so.
type CheckedUser struct {
	User      string   `json:"user"`
	Org       string   `json:"org,omitempty"`
	Plan      string   `json:"plan"`
	Limit     string   `json:"limit"`
	Used      int64    `json:"used"`
	Of        int64    `json:"of"`
	Endpoints []string `json:"endpoints,omitempty"` // the requests that it would refuse; absent: all
}

func (c *Check) key() string {
	var texts []string
	for _, change := range c.changes {
		texts = append(texts, change.String())
	}
	slices.Sort(texts)
	return fmt.Sprintf("check %q", texts)
}

func (c *Check) plans() PlanSet      { return c.Plans }
func (c *Check) keep() time.Duration { return freshFor }

func (c *Check) collector() collector {
	r := &checkResult{probes: probes{c.Plans, probing(c.Plans.ByName)}, then: probing(c.changed), byPlan: map[string]*checkedPlan{}}
	for name := range c.Plans.ByName {
		r.byPlan[name] = new(checkedPlan)
	}
	return r
}

func (c *Check) fits(found collector, _ bool) bool {
	_, ok := found.(*checkResult)
	return ok
}

func (c *Check) page(found collector, p Progress) any {
	r := found.(*checkResult)
	page := CheckPage{NewlyBlocked: r.newlyBlocked, Freed: r.freed, Users: []CheckedUser{}, Progress: p}
	for _, name := range slices.Sorted(maps.Keys(r.byPlan)) {
		now, then := r.byPlan[name].now, r.byPlan[name].then
		page.Plans = append(page.Plans, CheckedPlan{name, now.Users, now.Blocked, then.Blocked, now.OnEndpoint, then.OnEndpoint, now.AboveSoft, then.AboveSoft})
	}
	page.Users = append(page.Users, r.users...)
	return page
}

// A checkResult counts users by the plans as they are and as they would be.
type checkResult struct {
	probes
	then                map[string]*quota.Plan
	byPlan              map[string]*checkedPlan
	newlyBlocked, freed int64
	users               []CheckedUser // sorted
}

type checkedPlan struct{ now, then plancheck.Count }

func (r *checkResult) add(u quota.UserSnapshot) {
	now := plancheck.Check(u.Snapshot)
	if !now.Active {
		return
	}
	p := u.Snapshot.Plan
	after := r.then[p.Name()].ForScope(quota.ScopeOf(u.Account))
	then := plancheck.Check(plancheck.Under(u.Snapshot, after))
	count := r.byPlan[p.Name()]
	count.now.Add(&now)
	count.then.Add(&then)
	switch before, after := now.Severity(), then.Severity(); {
	case after < before:
		r.freed++
	case after > before:
		r.newlyBlocked++
		r.show(newCheckedUser(&u, &now, &then))
	}
}

// newCheckedUser names the first limit that blocks the user then and not now.
func newCheckedUser(u *quota.UserSnapshot, now, then *plancheck.Finding) CheckedUser {
	reached := then.Reached[0]
	for _, r := range then.Reached {
		if !slices.ContainsFunc(now.Reached, func(before plancheck.Reached) bool {
			return before.Name() == r.Name() && (before.Endpoints == nil) == (r.Endpoints == nil)
		}) {
			reached = r
			break
		}
	}
	checked := CheckedUser{Plan: u.Snapshot.Plan.Name(), Limit: reached.Name(), Used: reached.Used, Of: reached.Of, Endpoints: reached.Endpoints}
	checked.Org, checked.User = quota.SplitAccount(u.Account)
	return checked
}

// show has a user among those that are shown, if they are one of the first.
func (r *checkResult) show(u CheckedUser) {
	i, found := slices.BinarySearchFunc(r.users, u, func(a, b CheckedUser) int {
		if by := strings.Compare(a.User, b.User); by != 0 {
			return by
		}
		return strings.Compare(a.Org, b.Org)
	})
	if found || i == maxShown {
		return
	}
	if len(r.users) == maxShown {
		r.users = r.users[:maxShown-1]
	}
	r.users = slices.Insert(r.users, i, u)
}
