package proxy

import (
	"net/http"

	"metergate/proxy/browser"
	"metergate/quota"
)

// trackDeprecated is when POST /usage/track became deprecated, 1 December 2026, as the
// value of the Deprecation header (RFC 9745).
const trackDeprecated = "@1796083200"

// gatewayRoutes are the gateway's own resources. No configured route is at or below
// /usage.
func gatewayRoutes() []*route {
	routes := []*route{
		{Route: Route{Pattern: "GET /usage"}, answer: (*exchange).answerUsage},
		{Route: Route{Pattern: "GET /usage/stream"}, answer: (*exchange).answerStream, exempt: true, stream: true},
		{Route: Route{Pattern: "POST /usage/track"}, answer: (*exchange).answerTrack},
		// So that no configured route with a wildcard matches below /usage.
		{Route: Route{Pattern: "/usage/", Public: true}, answer: func(x *exchange) { x.fail(errNoRoute) }, exempt: true},
	}
	for _, name := range browser.Names() {
		routes = append(routes, &route{Route: Route{Pattern: "GET /usage/" + name, Public: true}, answer: serveBrowserFile(name), exempt: true})
	}
	return routes
}

// OwnRoutes returns the patterns of the gateway's own resources, such as "GET /usage". They are
// the same with every configuration.
func OwnRoutes() (patterns []string) {
	for _, r := range gatewayRoutes() {
		patterns = append(patterns, r.Pattern)
	}
	return patterns
}

// answerUsage answers GET /usage.
func (x *exchange) answerUsage() {
	s, err := x.g.store.Read(x.in.Context(), x.account, x.plans)
	if err != nil {
		x.fail(&storeError{err})
		return
	}
	x.writeJSON(http.StatusOK, "application/json", x.usageObject(s))
}

// A usageObject is what clients read about their usage. It includes where to upgrade,
// so that a front end can tell a user at the limit without sending a request that will
// be refused.
type usageObject struct {
	quota.Usage
	Upgrade string `json:"upgrade_url,omitempty"`
}

func (x *exchange) usageObject(s quota.Snapshot) usageObject {
	return usageObject{s.Usage(x.account), x.g.upgradeURLOf(s.Plan)}
}

// answerTrack answers front ends that still report their own calls. The gateway has
// already counted them.
func (x *exchange) answerTrack() {
	x.w.Header().Set("Deprecation", trackDeprecated)
	x.answerUsage()
}

// serveBrowserFile answers with a file for front ends.
func serveBrowserFile(name string) func(*exchange) {
	return func(x *exchange) { x.record.status = browser.Serve(x.w, x.in, name) }
}
