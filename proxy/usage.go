package proxy

import (
	"net/http"

	"metergate/proxy/browser"
	"metergate/quota"
)

// trackDeprecated is when POST /usage/track became deprecated, 1 December 2026,
// as a field of RFC 9745.
const trackDeprecated = "@1796083200"

// ownRoutes are the gateway's own resources. No other route is at or below
// /usage.
func ownRoutes() []*route {
	return []*route{
		{Route: Route{Pattern: "GET /usage"}, own: (*exchange).usage},
		{Route: Route{Pattern: "GET /usage/stream"}, own: (*exchange).stream, apart: true},
		{Route: Route{Pattern: "POST /usage/track"}, own: (*exchange).track},
		{Route: Route{Pattern: "GET /usage/client.js", Public: true}, own: browserFile("client.js"), apart: true},
		{Route: Route{Pattern: "GET /usage/client.d.ts", Public: true}, own: browserFile("client.d.ts"), apart: true},
		{Route: Route{Pattern: "GET /usage/meter.js", Public: true}, own: browserFile("meter.js"), apart: true},
		// Keeps routes with wildcards away from what is below /usage.
		{Route: Route{Pattern: "/usage/", Public: true}, own: func(x *exchange) { x.fail(errNoRoute) }, apart: true},
	}
}

// usage answers GET /usage.
func (x *exchange) usage() {
	s, err := x.g.store.Read(x.in.Context(), x.user.User, x.terms)
	if err != nil {
		x.fail(&errStore{err})
		return
	}
	x.writeJSON(http.StatusOK, "application/json", x.usageObject(s))
}

// usageObject is what clients read of their usage: also where to upgrade, so that a
// user at the limit can be told without a request that is refused.
type usageObject struct {
	quota.Usage
	Upgrade string `json:"upgrade_url,omitempty"`
}

func (x *exchange) usageObject(s quota.Snapshot) usageObject {
	return usageObject{s.Usage(x.user.User), x.g.upgradeURL}
}

// track answers front ends that still report their own calls. The gateway has
// counted them already.
func (x *exchange) track() {
	x.w.Header().Set("Deprecation", trackDeprecated)
	x.usage()
}

// browserFile answers with a file for front ends.
func browserFile(name string) func(*exchange) {
	return func(x *exchange) { x.status = browser.Serve(x.w, x.in, name) }
}
