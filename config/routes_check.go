package config

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"metergate/proxy/urlpath"

	"metergate/quota"
)

func (c *checker) checkRoutes() {
	if !c.usable("routes") {
		return
	}
	if len(c.cfg.Routes) == 0 {
		c.src.reportAt("routes", "must have at least one route")
	}
	mux := http.NewServeMux()
	var registered []int
	byPattern := map[string]int{} // the index of its route
	for i := range c.cfg.Routes {
		r := &c.cfg.Routes[i]
		path := indexPath("routes", i)
		r.Line = c.src.line(path)
		c.checkRouteChoices(path, r)
		if up := path + ".upstream"; c.usable(up, "upstreams") {
			u, ok := c.cfg.Upstreams[r.Upstream]
			if !ok {
				c.src.reportAt(up, "there is no such upstream%s; %s", c.src.got(up), quota.ListNames("upstream", slices.Sorted(maps.Keys(c.cfg.Upstreams))))
			}
			if !c.src.given(path + ".timeout") {
				r.Timeout = u.Timeout
			}
			if !c.src.given(path + ".max_body") {
				r.MaxBody = u.MaxBody
			}
		}
		match := path + ".match"
		if !c.usable(match) {
			continue
		}
		if err := checkPattern(r.Match); err != nil {
			c.src.reportAt(match, "%v%s", err, c.src.got(match))
			continue
		}
		if strip := path + ".strip_prefix"; c.usable(strip) && !pathBeginsWith(r.Match, r.StripPrefix) {
			c.src.reportAt(strip, "must be whole segments, without wildcards, with which the path of match begins%s", c.src.got(strip))
		}
		if j, ok := byPattern[r.Match]; ok {
			c.src.reportAt(match, "is the same pattern as %s", c.describeRoute(j))
			continue
		}
		if urlpath.RegisterPattern(mux, r.Match) == nil {
			registered = append(registered, i)
			byPattern[r.Match] = i
			continue
		}
		// The mux names the other pattern only in the prose of its error.
		j := slices.IndexFunc(registered, func(j int) bool {
			pair := http.NewServeMux()
			return urlpath.RegisterPattern(pair, c.cfg.Routes[j].Match) == nil && urlpath.RegisterPattern(pair, r.Match) != nil
		})
		c.src.reportAt(match, "conflicts with %s: some requests match both, and neither is more specific%s",
			c.describeRoute(registered[max(0, j)]), c.src.got(match))
	}
}

// checkRouteChoices checks the keys of a route that exclude each other.
func (c *checker) checkRouteChoices(path string, r *Route) {
	if r.Public && r.Endpoint != "" {
		c.src.reportAt(path+".auth", "none is only for a route without an endpoint; requests are counted by the user of their token")
	}
	if r.Upgrade && r.Endpoint != "" {
		c.src.reportAt(path+".upgrade", "allow is only for a route without an endpoint; nothing can be counted after a switch of protocols")
	}
	if r.Upgrade {
		for i, t := range c.cfg.Upstreams[r.Upstream].Targets {
			if t.URL != nil && t.URL.Scheme == "h2c" {
				c.src.reportAt(path+".upgrade", "allow needs targets that speak HTTP/1.1, and %s is h2c", indexPath(joinPath("upstreams", r.Upstream)+".targets", i))
			}
		}
	}
	if r.Observe && r.Endpoint == "" && !c.src.failed[path+".endpoint"] {
		c.src.reportAt(path+".mode", "observe is only for a route with an endpoint; without one nothing is limited")
	}
	if r.KeepCookie && c.cfg.Auth.Cookie == nil && !c.src.failed["auth"] && !c.src.failed[cookiePath] {
		c.src.reportAt(path+".cookie", "keep needs auth.cookie, which says which cookie has the token; without it all cookies are forwarded")
	}
	c.checkCost(path, r)
	user, plan := path+".user_header", path+".plan_header"
	for _, header := range []string{user, plan} {
		if r.Public && c.usable(header) {
			c.src.reportAt(header, "is only for a route with auth: jwt; without a token there is no user")
		}
	}
	if c.usable(user, plan) && r.UserHeader == r.PlanHeader {
		c.src.reportAt(plan, "must be another header than user_header%s", c.src.got(plan))
	}
}

// checkCost checks the cost of a route. One that no response tells is always max.
func (c *checker) checkCost(path string, r *Route) {
	at := path + ".cost"
	if r.Cost == nil {
		return
	}
	if r.Endpoint == "" && !c.src.failed[path+".endpoint"] {
		c.src.reportAt(at, "is only for a route with an endpoint; without one nothing is counted")
	}
	if !c.src.given(at + ".from") {
		cost := r.Cost
		for i, matters := range []bool{cost.Min != cost.Max, cost.Each != 1, cost.Missing != "max"} {
			if key := at + []string{".min", ".each", ".missing"}[i]; matters && c.src.given(key) {
				c.src.reportAt(key, "needs from, which says where the response tells the cost")
			}
		}
		cost.Min = cost.Max
		return
	}
	if c.usable(at+".max") && !c.src.failed[at+".min"] && r.Cost.Min > r.Cost.Max {
		c.src.reportAt(at+".min", "must not be more than max, which is %d%s", r.Cost.Max, c.src.got(at+".min"))
	}
}

// pathBeginsWith reports whether the path of a pattern begins with the segments of prefix,
// a path without a slash at its end.
func pathBeginsWith(pattern, prefix string) bool {
	segments := strings.Split(pattern[strings.IndexByte(pattern, '/')+1:], "/")
	for i, p := range strings.Split(prefix[1:], "/") {
		if i >= len(segments) || strings.Contains(segments[i], "{") {
			return false
		}
		if urlpath.DecodeSegment(segments[i]) != urlpath.DecodeSegment(p) {
			return false
		}
	}
	return true
}

// describeRoute names a route in a message about another one.
func (c *checker) describeRoute(j int) string {
	match := indexPath("routes", j) + ".match"
	return fmt.Sprintf("%s of %s on line %d", c.src.positions[match].text, indexPath("routes", j), c.src.line(match))
}
