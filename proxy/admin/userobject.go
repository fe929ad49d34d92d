package admin

import (
	"net/http"
	"time"

	"metergate/proxy/admin/scans"
	"metergate/quota"
)

// A userObject is the response of GET /admin/users/{user}: what the user sees, and what
// is behind it. It is also that of a member and, without a user, of an organisation.
type userObject struct {
	quota.Usage
	Window   string    `json:"window"`   // the id of the period's window
	Claimed  *string   `json:"claimed"`  // by the user's token at their last admitted request; null: unknown
	Override *override `json:"override"` // null: none
	Granted  []granted `json:"granted"`  // what the limits above contain beyond the plan
	// Nearest and BlockedBy are those of the user's row in a search.
	Nearest   *nearestLimit `json:"nearest"`
	BlockedBy []string      `json:"blocked_by"`
	Observe   bool          `json:"observe,omitempty"` // the plan refuses nothing
	// Members is nil unless the object is that of an organisation.
	Members *memberTerms `json:"members,omitempty"`
	// Concurrent is nil if any number of requests may run at once, or if the store does not say.
	Concurrent *concurrentObject `json:"concurrent,omitempty"`
	// Anchor is nil where months cannot begin on other days.
	Anchor *anchorObject `json:"anchor,omitempty"`
}

// A nearestLimit is the hard limit of which the largest part is used.
type nearestLimit struct {
	scans.NearestRow
	Status quota.Status `json:"status"`
}

// memberTerms are what the plan of an organisation allows each of its members, beside what they share.
type memberTerms struct {
	Limits     []scans.PlanLimit `json:"limits"`
	Concurrent int64             `json:"concurrent,omitempty"` // absent: any number
}

// A concurrentObject says how many requests run now, of those that may run at once.
type concurrentObject struct {
	Running int64 `json:"running"`
	Limit   int64 `json:"limit"`
}

type override struct {
	Plan  string     `json:"plan"`
	Until *time.Time `json:"until"` // null: no end
	// Shared: it is for all members of the organisation.
	Shared bool `json:"shared,omitempty"`
}

func overrideObject(o quota.Override) *override {
	if o == (quota.Override{}) {
		return nil
	}
	object := &override{Plan: o.Plan}
	if !o.Until.IsZero() {
		object.Until = &o.Until
	}
	return object
}

type granted struct {
	Name     string       `json:"name"`             // of the limit
	Shared   bool         `json:"shared,omitempty"` // the limit is one that members of an organisation share
	Endpoint string       `json:"endpoint,omitempty"`
	Per      quota.Period `json:"per"`
	Requests int64        `json:"requests,omitempty"`
	Units    int64        `json:"units,omitempty"` // instead of Requests, for a limit on units
}

// writeUser answers with a user's state.
func (c *userRequest) writeUser(s quota.Snapshot, claimed string) error {
	u := userObject{Usage: s.Usage(c.account), Window: s.Total.Window.ID, Override: overrideObject(s.Override), Granted: []granted{}, Anchor: c.anchorObject(s)}
	if claimed != "" {
		u.Claimed = &claimed
	}
	u.setStatus(s)
	if plan := c.Gateway.PlansFor("").ByName[s.Plan.Name()]; plan != nil && quota.ScopeOf(c.account) == quota.PoolScope {
		u.Members = &memberTerms{scans.MemberLimits(plan), plan.ConcurrencyLimit().Requests}
	}
	if s.Pool != nil && u.Override != nil {
		u.Override.Shared = s.Override == s.Pool.Override
	}
	if limit := s.Plan.ConcurrencyLimit().Requests; limit > 0 {
		if running, err := c.Store.Running(c.r.Context(), c.account); err == nil {
			u.Concurrent = &concurrentObject{running, limit}
		}
	}
	for i, l := range s.Plan.Limits() {
		if n := s.Limits[i].Granted; n > 0 {
			g := granted{Name: l.Name(), Shared: l.Shared, Endpoint: l.Endpoint, Per: l.Period, Requests: n}
			if l.Quantity == quota.Units {
				g.Requests, g.Units = 0, n
			}
			u.Granted = append(u.Granted, g)
		}
	}
	writeJSON(c.w, http.StatusOK, u)
	return nil
}

// setStatus says which limit is nearest, and what blocks.
func (u *userObject) setStatus(s quota.Snapshot) {
	status, blockedBy := scans.StatusOf(s)
	u.BlockedBy, u.Observe = append([]string{}, blockedBy...), s.Plan.Observes()
	if nearest := scans.NearestOf(s); nearest != nil {
		u.Nearest = &nearestLimit{*nearest, status}
	}
}

// asChosen returns the choice of a user for whom an administrator has chosen the plan of that name.
func asChosen(plans quota.PlanChoice, name string) (quota.PlanChoice, error) {
	if err := checkPlanExists("chosen", name, plans); err != nil {
		return plans, err
	}
	chosen, byName := plans.ByName[name], make(map[string]*quota.Plan, 2*len(plans.ByName))
	for other, p := range plans.ByName {
		byName[other] = chosen // whatever was chosen before
		byName["/"+other] = p  // no override has such a name; the plan's anchor still counts
	}
	plans.Claimed, plans.ByName = chosen, byName
	return plans, nil
}
