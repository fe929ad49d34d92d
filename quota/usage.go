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
// requests of the month. The fields about units are left out unless the plan ReportsUnits.
type Usage struct {
	User      string                   `json:"user,omitempty"` // empty: it is the usage of a pool
	Org       string                   `json:"org,omitempty"`  // the user's organisation
	Plan      string                   `json:"plan"`
	Unit      string                   `json:"unit,omitempty"`      // of the headline limit: "requests" or "units"
	UnitName  string                   `json:"unit_name,omitempty"` // what the UI calls a unit
	Used      int64                    `json:"used"`
	Limit     *int64                   `json:"limit"`
	Carried   *int64                   `json:"carried,omitempty"` // what limit contains of the window before, if the limit carries
	Remaining *int64                   `json:"remaining"`         // limit - used, never below 0
	InFlight  int64                    `json:"in_flight"`         // what requests in flight hold of the headline limit
	Percent   *int64                   `json:"percent"`           // rounded down; over 100 after a limit was lowered
	Status    Status                   `json:"status"`
	Allowed   bool                     `json:"allowed"` // a request that costs 1 fits into every limit without an endpoint, or the plan is in observe mode
	Period    UsagePeriod              `json:"period"`
	Endpoints map[string]EndpointUsage `json:"endpoints"` // every endpoint of the configuration
	Limits    []LimitUsage             `json:"limits"`
	// ExhaustsAt is absent where no history is kept, and where it would cost a call of the store.
	ExhaustsAt *Forecast `json:"exhausts_at,omitempty"`
	Stale      bool      `json:"stale"` // the store did not answer: the last known numbers
	AsOf       time.Time `json:"as_of"`
}

// UsagePeriod is the window that Usage reports on.
type UsagePeriod struct {
	Period Period     `json:"per"`
	Start  *time.Time `json:"start"` // null if it does not renew
	End    *time.Time `json:"end"`   // likewise
}

// EndpointUsage is what was used of one endpoint in the window that Usage reports on. Limit,
// Remaining, Percent and Status are present if the endpoint has a limit of its own in that
// period, which the members of an organisation do not share. Of several, it is the first one on
// requests that is not soft, else the first that is not soft, else the first. Allowed is present if the endpoint has a limit of its own in any
// period, and wherever Cost is.
type EndpointUsage struct {
	Used      int64  `json:"used"`            // requests
	Units     *int64 `json:"units,omitempty"` // what they cost
	Cost      *Cost  `json:"cost,omitempty"`  // of one request
	Unit      string `json:"unit,omitempty"`  // "units" if Limit and Remaining are in units
	Limit     *int64 `json:"limit,omitempty"`
	Remaining *int64 `json:"remaining,omitempty"`
	Percent   *int64 `json:"percent,omitempty"`
	Status    Status `json:"status,omitempty"`
	Allowed   *bool  `json:"allowed,omitempty"` // a request to it would be admitted, whatever it costs
}

// LimitUsage is the state of one limit. Limit includes what an administrator has granted for
// the running window.
type LimitUsage struct {
	Name      string     `json:"name"`
	Endpoint  string     `json:"endpoint,omitempty"`
	Period    Period     `json:"per"`
	Unit      string     `json:"unit,omitempty"` // "requests" or "units"
	Soft      bool       `json:"soft,omitempty"`
	Shared    bool       `json:"shared,omitempty"` // the numbers are those of all members of the organisation
	Used      int64      `json:"used"`
	Limit     int64      `json:"limit"`
	Carried   *int64     `json:"carried,omitempty"` // as that of Usage
	Remaining int64      `json:"remaining"`
	Over      *int64     `json:"over,omitempty"` // of a soft limit: what was used above it
	ResetsAt  *time.Time `json:"resets_at"`      // null if it does not renew
}

// Usage computes the usage object of the account whose state s is.
func (s Snapshot) Usage(account string) Usage {
	p := s.Plan
	org, user := SplitAccount(account)
	u := Usage{
		User:      user,
		Org:       org,
		Plan:      p.name,
		Unit:      p.unitText(p.HeadlineQuantity()),
		UnitName:  p.unitName,
		Used:      s.Total.Used,
		InFlight:  s.Total.Held,
		Status:    StatusOK,
		Allowed:   p.observe || s.Admits("", 1),
		Period:    UsagePeriod{Period: s.Total.Window.Period},
		Endpoints: make(map[string]EndpointUsage, len(p.endpoints)),
		Limits:    make([]LimitUsage, 0, len(p.limits)),
		Stale:     s.Stale,
		AsOf:      s.At.Truncate(time.Millisecond),
	}
	if w := s.Total.Window; w.Renews() {
		u.Period.Start, u.Period.End = &w.Start, &w.End
	}
	for i, name := range p.endpoints {
		u.Endpoints[name] = s.endpointUsage(i)
	}
	for i, l := range p.limits {
		c := s.Limits[i]
		limit := s.Allowance(i)
		left, percent := Remaining(c.Used, limit), Percent(c.Used, limit)
		lu := LimitUsage{
			Name: l.Name(), Endpoint: l.Endpoint, Period: l.Period, Unit: p.unitText(l.Quantity), Soft: l.Soft, Shared: l.Shared,
			Used: c.Used, Limit: limit, Remaining: left,
		}
		if l.Carry > 0 {
			lu.Carried = &s.Limits[i].Carried
		}
		if c.Window.Renews() {
			lu.ResetsAt = &s.Limits[i].Window.End
		}
		if l.Soft {
			over := max(0, c.Used-limit)
			lu.Over = &over
		}
		u.Limits = append(u.Limits, lu)
		if i == p.headline {
			u.Limit, u.Carried, u.Remaining, u.Percent = &limit, lu.Carried, &left, &percent
			u.Status = p.status(c.Used, limit)
		}
	}
	return u
}

// unitText is the unit of a number in the usage object; empty: units are not reported.
func (p *Plan) unitText(q Quantity) string {
	if !p.ReportsUnits() {
		return ""
	}
	return q.String()
}

// endpointUsage is what was used of the plan's endpoint i.
func (s Snapshot) endpointUsage(i int) EndpointUsage {
	p, name := s.Plan, s.Plan.endpoints[i]
	e := EndpointUsage{Used: s.Endpoints[i]}
	if p.ReportsUnits() {
		cost := p.Cost(name)
		e.Units, e.Cost = &s.EndpointUnits[i], &cost
	}
	limited, shown := false, -1
	for i, l := range p.limits {
		if l.Endpoint != name {
			continue
		}
		limited = true
		if shared := p.counters[i].Shared; !shared && l.Period == p.ReportPeriod() && (shown < 0 || l.showsBefore(p.limits[shown])) {
			shown = i
		}
	}
	if shown >= 0 {
		used, limit := s.Limits[shown].Used, s.Allowance(shown)
		left, percent := Remaining(used, limit), Percent(used, limit)
		e.Limit, e.Remaining, e.Percent = &limit, &left, &percent
		e.Status = p.status(used, limit)
		if p.limits[shown].Quantity == Units {
			e.Unit = Units.String()
		}
	}
	if limited || p.ReportsUnits() {
		allowed := p.observe || s.Admits(name, p.Cost(name).MaxUnits())
		e.Allowed = &allowed
	}
	return e
}

// showsBefore reports whether the entry of an endpoint shows l and not other.
func (l Limit) showsBefore(other Limit) bool {
	if l.Soft != other.Soft {
		return other.Soft
	}
	return l.Quantity < other.Quantity
}

// Remaining is what is left of a limit, never negative.
func Remaining(used, limit int64) int64 { return max(0, limit-used) }

// Percent is what was used of a limit in percent. It rounds down. A limit of 0 is fully used.
func Percent(used, limit int64) int64 {
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

// A WindowQuery says which windows of a period a scan of accounts reads.
type WindowQuery struct {
	Period Period
	At     time.Time // an instant
	// Beginning: each account's windows that begin in the window of the calendar that contains At. So
	// every window is in one query. After a change of anchor, an account can have several of them.
	// Otherwise it is the one window of each account that contains At.
	Beginning bool
}

// WindowsOf returns the windows of an account with these terms, in the order of time; never none.
func (q WindowQuery) WindowsOf(t Terms, c *Calendar) []Window {
	calendar := c.WindowAt(q.Period, q.At)
	if !q.Beginning || len(t.spans(q.Period)) == 0 {
		return []Window{t.WindowAt(c, q.Period, q.At)}
	}
	var windows []Window
	for w := t.WindowAt(c, q.Period, calendar.Start); w.Start.Before(calendar.End); w = t.WindowAt(c, q.Period, w.End) {
		if !w.Start.Before(calendar.Start) {
			windows = append(windows, w)
		}
	}
	return windows
}

// UserUsage is what one user has used in one window, as a scan of all users reports it.
type UserUsage struct {
	User string
	Org  string // the user's organisation; empty: none
	// Window is the account's own window, see Terms.
	Window Window
	// ClaimedPlan is the plan that the user's token claimed when they were last admitted or
	// counted; empty: not known.
	ClaimedPlan string
	// Override is the one that the account has now, whatever the window. That of a member's
	// organisation is not among it.
	Override Override
	Used     int64 // the sum of Endpoints
	// Endpoints has the requests to each endpoint, including endpoints that are no longer in
	// the configuration. Endpoints that were not used may be missing.
	Endpoints map[string]int64
	// Extra has, for each endpoint, by how much the units of these requests exceed their number;
	// it can be negative. Endpoints of which each request cost one unit are missing.
	Extra map[string]int64
}

// A SnapshotQuery says whose snapshots a scan of accounts reads.
type SnapshotQuery struct {
	// Org: only the members of this organisation; empty: everybody.
	Org string
	// Plans returns the plans that may apply to a user whose token last claimed a plan; empty: none is
	// known. They have no Anchor, and the store fills in the Scope.
	Plans func(claimed string) PlanChoice
	// Wanted is asked once about each account that the scan comes to, before anything else is read of
	// it, and reports whether its snapshot is wanted; nil: all are.
	Wanted func(account string) bool
}

// PlansOf returns the plans that may apply to an account whose token last claimed a plan.
func (q *SnapshotQuery) PlansOf(account, claimed string) PlanChoice {
	plans := q.Plans(claimed)
	plans.Scope = ScopeOf(account)
	return plans
}

// Wants reports whether the snapshot of an account is wanted.
func (q *SnapshotQuery) Wants(account string) bool { return q.Wanted == nil || q.Wanted(account) }

// UserSnapshot is the state of one account, as a scan of all of them reports it.
type UserSnapshot struct {
	Account     string // of a user or a member, see MemberAccount
	ClaimedPlan string // as in UserUsage
	Snapshot    Snapshot
}
