package quota

import "time"

// A Status says how close a user is to a limit.
type Status string

// The statuses, which the UI shows green, yellow and red.
const (
	StatusOK      Status = "ok"
	StatusWarning Status = "warning" // used*100 >= limit*warn_at
	StatusBlocked Status = "blocked" // used >= limit
)

// Usage is the usage object, the response to GET /usage. The numbers at its top are those of
// the headline limit. Without one, Limit, Remaining and Percent are null and Used counts the
// month.
type Usage struct {
	User      string                   `json:"user"`
	Plan      string                   `json:"plan"`
	Used      int64                    `json:"used"`
	Limit     *int64                   `json:"limit"`
	Remaining *int64                   `json:"remaining"` // limit - used, never below 0
	InFlight  int64                    `json:"in_flight"` // units held by requests in flight
	Percent   *int64                   `json:"percent"`   // rounded down; over 100 after a limit was lowered
	Status    Status                   `json:"status"`
	Allowed   bool                     `json:"allowed"` // every limit without an endpoint has a unit left, or the plan is in observe mode
	Period    UsagePeriod              `json:"period"`
	Endpoints map[string]EndpointUsage `json:"endpoints"` // every endpoint of the configuration
	Limits    []LimitUsage             `json:"limits"`
	Stale     bool                     `json:"stale"` // the store did not answer: the last known numbers
	AsOf      time.Time                `json:"as_of"`
}

// UsagePeriod is the window that Usage reports on.
type UsagePeriod struct {
	Period Period    `json:"per"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
}

// EndpointUsage is what was used of one endpoint in the window that Usage reports on. Limit,
// Remaining, Percent and Status are present if the endpoint has a limit of its own in that
// period, Allowed if it has a limit of its own in any period.
type EndpointUsage struct {
	Used      int64  `json:"used"`
	Limit     *int64 `json:"limit,omitempty"`
	Remaining *int64 `json:"remaining,omitempty"`
	Percent   *int64 `json:"percent,omitempty"`
	Status    Status `json:"status,omitempty"`
	Allowed   *bool  `json:"allowed,omitempty"` // a request to it would be admitted
}

// LimitUsage is the state of one limit. Limit includes what an administrator has granted for
// the running window.
type LimitUsage struct {
	Name      string    `json:"name"`
	Endpoint  string    `json:"endpoint,omitempty"`
	Period    Period    `json:"per"`
	Used      int64     `json:"used"`
	Limit     int64     `json:"limit"`
	Remaining int64     `json:"remaining"`
	ResetsAt  time.Time `json:"resets_at"`
}

// Usage computes the usage object of the user whose state s is.
func (s Snapshot) Usage(user string) Usage {
	p := s.Plan
	u := Usage{
		User:     user,
		Plan:     p.name,
		Used:     s.Total.Used,
		InFlight: s.Total.Held,
		Status:   StatusOK,
		Allowed:  p.observe || s.Admits(""),
		Period:   UsagePeriod{Period: s.Total.Window.Period, Start: s.Total.Window.Start, End: s.Total.Window.End},
		Limits:   make([]LimitUsage, 0, len(p.limits)),
		Stale:    s.Stale,
		AsOf:     s.At.Truncate(time.Millisecond),
	}
	u.Endpoints = make(map[string]EndpointUsage, len(p.endpoints))
	for i, name := range p.endpoints {
		u.Endpoints[name] = EndpointUsage{Used: s.Endpoints[i]}
	}
	for i, l := range p.limits {
		c := s.Limits[i]
		limit := s.Allowance(i)
		left, percent := Remaining(c.Used, limit), percentOf(c.Used, limit)
		u.Limits = append(u.Limits, LimitUsage{
			Name: l.Name(), Endpoint: l.Endpoint, Period: l.Period,
			Used: c.Used, Limit: limit, Remaining: left, ResetsAt: c.Window.End,
		})
		if i == p.headline {
			u.Limit, u.Remaining, u.Percent = &limit, &left, &percent
			u.Status = p.status(c.Used, limit)
		}
		if l.Endpoint != "" {
			e := u.Endpoints[l.Endpoint]
			if l.Period == p.ReportPeriod() {
				e.Limit, e.Remaining, e.Percent = &limit, &left, &percent
				e.Status = p.status(c.Used, limit)
			}
			allowed := p.observe || s.Admits(l.Endpoint)
			e.Allowed = &allowed
			u.Endpoints[l.Endpoint] = e
		}
	}
	return u
}

// Remaining is what is left of a limit, never negative.
func Remaining(used, limit int64) int64 { return max(0, limit-used) }

// percentOf rounds down. A limit of 0 is fully used.
func percentOf(used, limit int64) int64 {
	if limit == 0 {
		return 100
	}
	return used * 100 / limit
}

func (p *Plan) status(used, limit int64) Status {
	switch {
	case used >= limit:
		return StatusBlocked
	case used*100 >= limit*p.warnAt:
		return StatusWarning
	}
	return StatusOK
}

// UserUsage is what one user has used in one window, as a scan of all users reports it.
type UserUsage struct {
	User string
	// ClaimedPlan is the plan that the user's token claimed when they were last admitted or
	// counted; empty: not known.
	ClaimedPlan string
	Override    Override // in force now, whatever the window
	Used        int64    // the sum of Endpoints
	// Endpoints has what was used of each endpoint, including endpoints that are no longer in
	// the configuration. Endpoints that were not used may be missing.
	Endpoints map[string]int64
}
