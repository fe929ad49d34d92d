package config

import "time"

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
	// Without it, this route answers 404 to a path that the upstream may take for that of
	// another route, if a client could get around that route's endpoint or token like this: it
	// differs only in letter case, a slash at the end, a ;parameter or a file extension, or is
	// the same after strip_prefix. With true, such paths are forwarded; set it if the upstream
	// tells them apart.
	ExactPaths bool `yaml:"exact_paths"`
	// With observe, no plan blocks a request on this route; see the mode of a plan. With
	// enforce, the plan decides. Only a route with an endpoint can have observe.
	Observe bool `yaml:"mode" oneof:"enforce, observe"`
	// Line is where the route stands in the file, from 1.
	Line int
}
