package routetable

import "slices"

// Terms are what a route demands of its requests, and where it sends them. They decide
// whether one route may serve a request that is nearly one of another route's.
type Terms struct {
	// Endpoint is the name that requests count under; empty: they are not metered.
	Endpoint string
	// Public: no token is needed.
	Public bool
	// Observe: no limit blocks a request.
	Observe bool
	// Cost is what a request is charged. Any two values can be compared with ==.
	Cost any
	// Targets are the addresses of the upstream. With one in common, two routes lead to the
	// same server.
	Targets []string
}

// Evades reports whether a client that gets a handler of the other route through this one
// goes without a count, a limit or a token that the other route demands.
//
// Behind another upstream there may be a proxy that leads back to the handler, so a metered
// route is kept from all others. A token alone is demanded only where both lead to one server:
// a public site often has a page at /account, beside an API at /account/.
func (t *Terms) Evades(other *Terms) bool {
	if other.Endpoint != "" {
		return t.Endpoint != other.Endpoint || t.Cost != other.Cost || t.Observe && !other.Observe
	}
	return t.Public && !other.Public && t.SharesTarget(other)
}

// SharesTarget reports whether both routes lead to the same server.
func (t *Terms) SharesTarget(other *Terms) bool {
	return slices.ContainsFunc(t.Targets, func(target string) bool { return slices.Contains(other.Targets, target) })
}
