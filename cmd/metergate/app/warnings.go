package app

import (
	"fmt"
	"strings"

	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/routetable"
)

// NearRouteWarnings returns a warning for each route through which a client could get to what
// another route meters or protects with a token, because a lenient framework takes two paths
// for the same, or because the routes strip different prefixes.
func NearRouteWarnings(cfg *config.Config) (warnings []string) {
	for i, r := range cfg.Routes {
		if r.ExactPaths {
			continue
		}
		var near, within, together []string
		terms := termsOf(cfg, r)
		for _, other := range cfg.Routes {
			otherTerms := termsOf(cfg, other)
			switch {
			case !terms.Evades(otherTerms):
			case routetable.MayBeNear(r.Match, other.Match):
				near = append(near, other.Match)
			case r.StripPrefix == other.StripPrefix || r.Endpoint != "" || !terms.SharesTarget(otherTerms):
			default:
				switch routetable.OverlapBehind(r.Match, r.StripPrefix, other.Match, other.StripPrefix) {
				case routetable.Within:
					within = append(within, other.Match)
				case routetable.Together:
					together = append(together, other.Match)
				}
			}
		}
		warn := func(others []string, text string) {
			if len(others) > 0 {
				warnings = append(warnings, fmt.Sprintf("routes[%d].match (line %d): %s "+text, i, r.Line, r.Match, listSome(others)))
			}
		}
		if routetable.HasWildcards(r.Match) {
			warn(near, "matches paths that differ from those of %s only in letter case, a slash at the end, a ;parameter or an extension; these are answered 404. If the upstream tells such paths apart, set exact_paths: true")
		} else {
			warn(near, "differs from %s only in letter case, a slash at the end, a ;parameter or an extension, and is "+describe(r)+". If the upstream tells them apart, set exact_paths: true; otherwise give it the same endpoint, cost and auth")
		}
		warn(within, "leads to the same paths of the upstream as %s, with another strip_prefix; these are answered 404. To serve them, set exact_paths: true")
		warn(together, "leads to the same paths of the upstream as %s, with another strip_prefix, and is "+describe(r)+". If that is meant, set exact_paths: true; otherwise give it the same endpoint, cost and auth")
	}
	return warnings
}

// describe says what a route lacks in comparison with another one.
func describe(r config.Route) string {
	switch {
	case r.Public:
		return "open to everybody"
	case r.Endpoint == "":
		return "not metered"
	case r.Observe:
		return "not limited"
	}
	return "counted as " + r.Endpoint
}

func termsOf(cfg *config.Config, r config.Route) *routetable.Terms {
	route := proxy.Route{Endpoint: r.Endpoint, Public: r.Public, Observe: r.Observe, Cost: costOf(r.Cost), Targets: targetsOf(cfg, r)}
	terms := route.Terms()
	return &terms
}

// targetsOf returns the URLs of a route's targets.
func targetsOf(cfg *config.Config, r config.Route) (urls []string) {
	for _, t := range cfg.Upstreams[r.Upstream].Targets {
		u := *t.URL
		if u.Scheme == "h2c" {
			u.Scheme = "http" // a server may speak both
		}
		urls = append(urls, strings.TrimSuffix(u.String(), "/"))
	}
	return urls
}

// listSome names the first three of a list.
func listSome(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d other routes", strings.Join(names[:shown], ", "), len(names)-shown)
}
