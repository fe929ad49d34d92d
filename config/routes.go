package config

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"metergate/proxy/reported"
	"metergate/quota"
)

// A Route says which requests go where, and under which endpoint they count.
type Route struct {
	// A pattern of Go's http.ServeMux, [METHOD ][HOST]/PATH: "POST /api/analyze", "GET
	// /items/{id}", "example.com/files/". {id} stands for one segment, {rest...} for all that
	// follow, and a slash at the end for everything below. Of two patterns the more specific
	// one wins; two that overlap otherwise are an error. /usage and everything below it belong
	// to the gateway.
	Match string `yaml:"match" required:"true" as:"pattern"`
	// The name that requests count under: 1 to 64 of a-z, 0-9 and -. Default: requests are
	// forwarded and not metered.
	Endpoint string `yaml:"endpoint" as:"endpoint"`
	// The name of one of the upstreams.
	Upstream string `yaml:"upstream" required:"true"`
	// With none, requests need no token. Only a route without an endpoint can have none.
	Public bool `yaml:"auth" oneof:"jwt, none"`
	// Replaces the timeout of the upstream. Default: the upstream's.
	Timeout time.Duration `yaml:"timeout" min:"1ms" max:"1h"`
	// Replaces the max_body of the upstream. Default: the upstream's.
	MaxBody int64 `yaml:"max_body" min:"1" as:"size"`
	// The beginning of the path that the upstream does not get. It is made of whole segments
	// with which match must begin, without wildcards and without a slash at the end. If
	// nothing else is left of a path, the upstream gets /. Default: nothing is removed.
	StripPrefix string `yaml:"strip_prefix" as:"strip"`
	// With allow, a client may switch to another protocol, such as WebSocket. Only a route
	// without an endpoint can have allow.
	Upgrade bool `yaml:"upgrade" oneof:"refuse, allow"`
	// The header that tells the upstream who the user is. The gateway removes this header from
	// clients' requests on all routes. Only a route with auth: jwt can have it. Default: the
	// upstream is not told.
	UserHeader string `yaml:"user_header" as:"header"`
	// The header that tells the upstream which plan the user has. The gateway removes this
	// header from clients' requests on all routes. Only a route with auth: jwt can have it. It
	// must be another header than user_header. Default: the upstream is not told.
	PlanHeader string `yaml:"plan_header" as:"header"`
	// With drop, the upstream does not get the Authorization header.
	DropAuthorization bool `yaml:"authorization" oneof:"forward, drop"`
	// With keep, the upstream gets the cookie of auth.cookie. With drop, it gets all cookies but
	// that one.
	KeepCookie bool `yaml:"cookie" oneof:"drop, keep"`
	// Without it, this route answers 404 to a path that the upstream may take for that of
	// another route, if a client could get around that route's endpoint, cost or token like
	// this: it differs only in letter case, a slash at the end, a ;parameter or a file
	// extension, or is the same after strip_prefix. With true, such paths are forwarded; set it
	// if the upstream tells them apart.
	ExactPaths bool `yaml:"exact_paths"`
	// With observe, no plan blocks a request on this route; see the mode of a plan. With
	// enforce, the plan decides. Only a route with an endpoint can have observe.
	Observe bool `yaml:"mode" oneof:"enforce, observe"`
	// What a request costs, in units: a number, or a mapping for a cost that the response tells.
	// Only a route with an endpoint can have it. Default: 1.
	Cost *Cost `yaml:"cost" short:"max"`
	// Line is where the route stands in the file, from 1.
	Line int
}

// A Cost says how many units a request is charged. A request holds the most that it may cost
// before it is forwarded, so no limit is ever exceeded. What it is not charged is given back in the
// same step in which its cost is counted. Only requests that succeed are charged.
type Cost struct {
	// The units that are held, and the most that a request is charged. A number in place of the
	// mapping is the same for max and min.
	Max int64 `yaml:"max" required:"true" min:"1" max:"1000000000"`
	// The units that a successful request is charged at least. It must not be more than max, and
	// needs from.
	Min int64 `yaml:"min" default:"1" min:"0" max:"1000000000"`
	// Where the upstream's response reports the cost, as a whole number, 0 or more. "header NAME":
	// in a header, which the client does not get; one with a meaning of its own, such as Set-Cookie,
	// is refused. "json PATH": in its body, which is JSON, lines of JSON, or an event stream; the
	// path is made of the names of members, such as usage.total_tokens. Default: nowhere, and each request is charged max.
	From string `yaml:"from" as:"costsource"`
	// One unit is charged for each so many of what the upstream has reported, rounded up. It needs
	// from.
	Each int64 `yaml:"each" default:"1" min:"1" max:"1000000000000"`
	// What is charged when the response does not report the cost, or not as one whole number. It
	// needs from.
	Missing string `yaml:"missing" default:"max" oneof:"max, min"`
}

// Header is the response header that reports the cost, in its canonical form; empty: none does.
func (c *Cost) Header() string {
	name, ok := strings.CutPrefix(c.From, "header ")
	if !ok {
		return ""
	}
	return http.CanonicalHeaderKey(strings.TrimSpace(name))
}

// Path leads to what reports the cost in the response's body; the zero value: nothing does.
func (c *Cost) Path() reported.Path {
	text, ok := strings.CutPrefix(c.From, "json ")
	if !ok {
		return reported.Path{}
	}
	path, _ := reported.ParsePath(strings.TrimSpace(text)) // it has been checked
	return path
}

// Costs returns what requests to each endpoint may cost, over all of its routes; nil if nothing in
// the configuration is about units.
func (c *Config) Costs() map[string]quota.Cost {
	costs, units := map[string]quota.Cost{}, false
	onUnits := func(l Limit) bool { return l.Quantity() == quota.Units }
	for _, p := range c.Plans {
		units = units || slices.ContainsFunc(p.Limits, onUnits) || slices.ContainsFunc(p.Shared, onUnits)
	}
	for _, r := range c.Routes {
		if r.Endpoint == "" {
			continue
		}
		own := quota.Cost{Min: 1, Max: 1}
		if r.Cost != nil {
			own, units = quota.Cost{Min: r.Cost.Min, Max: r.Cost.Max}, true
		}
		if other, ok := costs[r.Endpoint]; ok {
			own = quota.Cost{Min: min(own.Min, other.Min), Max: max(own.Max, other.Max)}
		}
		costs[r.Endpoint] = own
	}
	if !units {
		return nil
	}
	return costs
}

// costWarnings names the routes that users of a plan can never call: the most that a request may
// cost is held of each limit on units, and is more than one of them allows.
func (c *Config) costWarnings() (warnings []string) {
	for i, r := range c.Routes {
		if r.Cost == nil || r.Observe {
			continue
		}
		tooMuch := func(l Limit) bool {
			applies := l.Quantity() == quota.Units && !l.Soft && (l.Endpoint == "" || l.Endpoint == r.Endpoint)
			return applies && l.Amount() > 0 && r.Cost.Max > l.Amount() // 0 says that the plan does not include it
		}
		for _, name := range slices.Sorted(maps.Keys(c.Plans)) {
			p := c.Plans[name]
			key, limits := "limits", p.Limits
			if !slices.ContainsFunc(limits, tooMuch) {
				key, limits = "shared", p.Shared
			}
			if j := slices.IndexFunc(limits, tooMuch); j >= 0 && !p.Observe {
				warnings = append(warnings, fmt.Sprintf("routes[%d].cost (line %d): a request may cost %d units, and plans.%s.%s[%d] (line %d) allows only %d, "+
					"so users of this plan can never call %s; lower the cost, raise the limit, or set it to 0 if the plan does not include this endpoint",
					i, r.Line, r.Cost.Max, name, key, j, limits[j].Line, limits[j].Amount(), r.Match))
			}
		}
	}
	return warnings
}
