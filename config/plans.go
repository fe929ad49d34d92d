package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"metergate/quota"
)

// A Plan is a list of limits, all of which apply. Users of a plan without limits are counted
// and never blocked.
type Plan struct {
	// The limits of the plan. The first one without an endpoint is the headline limit, which
	// X-Usage shows; a soft one only if there is no other. For each endpoint and window, there can
	// be one limit on requests and one on units, and a soft one of each. Default: none.
	Limits []Limit `yaml:"limits"`
	// Limits that all members of an organisation share: together they may use so much. They apply
	// beside the limits of each member, and only to users whose token names an organisation, see
	// auth.jwt.claims.org. Default: none.
	Shared []Limit `yaml:"shared"`
	// On which day the months and years of the plan's users begin. With calendar, months begin on the
	// 1st and years on 1 January; with claim, on the day that the claim auth.jwt.claims.anchor has;
	// with first_use, on the day of the user's first counted request under such a plan. Default:
	// calendar.
	Anchor string `yaml:"anchor" oneof:"calendar, claim, first_use"`
	// How often a user may try, whatever the outcome of the requests, on all metered routes
	// together. Default: as often as they like.
	Attempts *Attempts `yaml:"attempts"`
	// How many requests of a user may run at once, on all gateways together: a number, or a
	// mapping with the time that more of them wait. A request runs until its response has ended, or
	// its client is gone. Default: as many as they like.
	Concurrent *Concurrent `yaml:"concurrent" short:"requests"`
	// With observe, limits, attempts and concurrent block nothing: a request that they would refuse is
	// forwarded, counted, and named in the log, in a metric and in X-Usage-Would-Block.
	Observe bool `yaml:"mode" oneof:"enforce, observe"`
	// The link that users of this plan get instead of the upgrade_url at the top. Default: that one.
	UpgradeURL string `yaml:"upgrade_url" as:"url"`
}

// A Limit allows a number of requests, or of units, in each window. It has one of the keys requests
// and units.
type Limit struct {
	// How many requests the window allows. 0 means: not in this plan.
	Requests *int64 `yaml:"requests" as:"limit"`
	// How many units the window allows. A request is one unit, unless its route has a cost. 0
	// means: not in this plan.
	Units *int64 `yaml:"units" as:"limit"`
	// When the limit renews: with each new minute, hour, day, week, month or year that clocks and
	// calendars in timezone show, and not after that time from the first request. Weeks begin on
	// Monday, months on the 1st or on the day that the plan's anchor chooses. With ever, the limit
	// never renews: what is used of it stays used.
	Per quota.Period `yaml:"per" required:"true"`
	// The endpoint that the limit is for. A route must have this endpoint. Default: all
	// endpoints together.
	Endpoint string `yaml:"endpoint" as:"endpoint"`
	// How much of what was not used moves to the next window of the limit, once: a number, or all.
	// Only for limits per day, week, month or year that are not soft. Default: nothing.
	Carry string `yaml:"carry" as:"carry"`
	// With observe, the limit is soft: it blocks nothing. What is used above it is counted, and
	// reported in GET /usage and in X-Usage-Would-Block.
	Soft bool `yaml:"mode" oneof:"enforce, observe"`
	// Line is where the limit stands in the file, from 1.
	Line int
}

// Quantity is what the limit counts.
func (l Limit) Quantity() quota.Quantity {
	if l.Units != nil {
		return quota.Units
	}
	return quota.Requests
}

// Amount is what the limit allows of its Quantity.
func (l Limit) Amount() int64 {
	if l.Units != nil {
		return *l.Units
	}
	return *l.Requests
}

// CarryAmount is how much may be carried, see quota.Limit.
func (l Limit) CarryAmount() int64 {
	if l.Carry == carryAll {
		return quota.MaxAmount
	}
	n, _ := strconv.ParseInt(l.Carry, 10, 64) // checkCarry has read it
	return n
}

// carryAll is what carry says for all that was not used.
const carryAll = "all"

// checkCarry checks the text of carry.
func checkCarry(text string) error {
	if n, err := parseDecimal(text, 64); text != carryAll && (err != nil || n < 1 || n > quota.MaxAmount) {
		return fmt.Errorf("must be a whole number from 1 to %d, or all", int64(quota.MaxAmount))
	}
	return nil
}

// UsesTerms reports whether a plan has the key anchor, or a limit the key carry. Then stores keep
// more of each user than counts. With anchor: calendar, users whose months began on another day go
// back to the calendar at the end of the running month.
func (c *Config) UsesTerms() bool {
	carries := func(l Limit) bool { return l.Carry != "" }
	for _, p := range c.Plans {
		if p.Anchor != "" || slices.ContainsFunc(p.Limits, carries) || slices.ContainsFunc(p.Shared, carries) {
			return true
		}
	}
	return false
}

// Concurrent bounds the requests of a user that run at once.
type Concurrent struct {
	// How many requests may run at once.
	Requests int64 `yaml:"requests" required:"true" min:"1" max:"1000000"`
	// How long a further request waits for its turn before it is answered 429. A request for which
	// a limit has no room only because of others that still run waits as well. With 0, it does not
	// wait.
	Wait time.Duration `yaml:"wait" default:"0s" min:"0s" max:"30s"`
}

// Attempts are a number of requests that a user may send at once. They come back evenly, all
// of them within the time that per gives.
type Attempts struct {
	// How many requests may be sent at once.
	Requests int64 `yaml:"requests" required:"true" min:"1" max:"10000"`
	// The time in which all attempts come back. It is a length of time: a day has 24 hours and does
	// not begin at midnight.
	Per string `yaml:"per" required:"true" oneof:"second, minute, hour, day"`
}

// Interval returns the length of Per.
func (a Attempts) Interval() time.Duration {
	return map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[a.Per]
}

// checkName checks the name of a plan or an upstream.
func (c *checker) checkName(path, name string) {
	if !quota.IsName(name) {
		c.src.reportAt(path, "a name must have 1 to 64 letters, digits, - and _")
	}
}

func (c *checker) checkPlans() {
	if !c.usable("plans") {
		return
	}
	names := slices.Sorted(maps.Keys(c.cfg.Plans))
	if len(names) == 0 {
		c.src.reportAt("plans", "must have at least one plan")
	} else if c.usable("default_plan") && !slices.Contains(names, c.cfg.DefaultPlan) {
		c.src.reportAt("default_plan", "there is no such plan%s; %s", c.src.got("default_plan"), quota.ListNames("plan", names))
	}
	for _, name := range names {
		path := joinPath("plans", name)
		c.checkName(path, name)
		if c.cfg.Plans[name].Anchor == "claim" && c.usable("auth", jwtPath) && !c.cfg.Auth.hasAnchors() && !c.src.failed[anchorClaimPath] {
			c.src.reportAt(path+".anchor", "needs %s, the claim that says on which day a user's months begin", anchorClaimPath)
		}
		c.checkLimits(joinPath(path, "limits"), c.cfg.Plans[name].Limits)
		c.checkLimits(joinPath(path, "shared"), c.cfg.Plans[name].Shared)
	}
}

// checkLimits checks one of the lists of limits of a plan.
func (c *checker) checkLimits(path string, limits []Limit) {
	endpoints, complete := c.endpoints()
	first := map[string]string{} // the path of the limit with this name
	for i, l := range limits {
		at := indexPath(path, i)
		limits[i].Line = c.src.line(at)
		endpoint := at + ".endpoint"
		c.checkAmount(at, l)
		if c.src.failed[endpoint] {
			continue
		}
		if l.Endpoint != "" && complete && !slices.Contains(endpoints, l.Endpoint) {
			c.src.reportAt(endpoint, "no route counts under this endpoint%s; %s", c.src.got(endpoint), quota.ListNames("endpoint", endpoints))
		}
		if !c.usable(at+".per") || c.src.failed[at+".mode"] {
			continue
		}
		c.checkCarry(at, l)
		named := quota.Limit{Period: l.Per, Endpoint: l.Endpoint, Quantity: l.Quantity(), Soft: l.Soft}.Name()
		if other, ok := first[named]; ok {
			c.src.reportAt(at, "is for the same window and endpoint as %s on line %d; keep one of them", other, c.src.line(other))
		} else {
			first[named] = at
		}
	}
}

// carryNeeds is for how long the counts of a window must stay readable so that the next one, at its
// end, still knows what was left.
var carryNeeds = map[quota.Period]string{quota.Day: "25h", quota.Week: "8d", quota.Month: "32d", quota.Year: "366d"}

// checkCarry checks that there can be something to carry.
func (c *checker) checkCarry(at string, l Limit) {
	path := at + ".carry"
	if l.Carry == "" {
		return
	}
	needs, renews := carryNeeds[l.Per]
	keep, _ := parseDuration(needs)
	switch {
	case l.Per == quota.Ever:
		c.src.reportAt(path, "a limit per ever does not renew, so nothing can be carried; remove it")
	case !renews:
		c.src.reportAt(path, "only a limit per day, week, month or year can carry; remove it")
	case l.Soft:
		c.src.reportAt(path, "a soft limit blocks nothing, so nothing can be carried; remove it")
	case (l.Requests != nil || l.Units != nil) && l.Amount() == 0:
		c.src.reportAt(path, "nothing of a limit of 0 can be carried; remove it")
	case c.usable("store.keep") && c.cfg.Store.Keep < keep:
		c.src.reportAt(path, "needs store.keep to be at least %s, because what was left is worked out from the counts of the %s before", needs, l.Per)
	}
}

// checkAmount checks what a limit allows.
func (c *checker) checkAmount(at string, l Limit) {
	requests, units := at+".requests", at+".units"
	hasRequests, hasUnits := c.src.given(requests) || c.src.failed[requests], c.src.given(units) || c.src.failed[units]
	switch {
	case hasRequests && hasUnits:
		c.src.reportAt(units, "give requests or units, not both")
		return
	case !hasRequests && !hasUnits:
		c.src.reportAt(at, "needs requests or units")
		return
	}
	path := requests
	if hasUnits {
		path = units
	}
	if !c.usable(path) {
		return
	}
	switch n := l.Amount(); {
	case n < 0:
		c.src.reportAt(path, "must not be negative%s", c.src.got(path))
	case n > quota.MaxAmount:
		c.src.reportAt(path, "must be at most %d%s", int64(quota.MaxAmount), c.src.got(path))
	}
}

// endpoints returns the endpoints of all routes, sorted. complete is false if a faulty route
// may have another one.
func (c *checker) endpoints() (names []string, complete bool) {
	if !c.usable("routes") {
		return nil, false
	}
	for i, r := range c.cfg.Routes {
		route := indexPath("routes", i)
		if c.src.failed[route] || c.src.failed[route+".endpoint"] {
			return nil, false
		}
		if r.Endpoint != "" && !slices.Contains(names, r.Endpoint) {
			names = append(names, r.Endpoint)
		}
	}
	slices.Sort(names)
	return names, true
}
