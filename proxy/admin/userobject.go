package admin

import (
	"net/http"
	"time"

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
	// Concurrent is nil if any number of requests may run at once, or if the store does not say.
	Concurrent *concurrentObject `json:"concurrent,omitempty"`
	// Anchor is nil where months cannot begin on other days.
	Anchor *anchorObject `json:"anchor,omitempty"`
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
