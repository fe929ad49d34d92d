package config

import (
	"net/url"
	"time"
)

// An Upstream is a service behind the gateway.
type Upstream struct {
	// The addresses of the service, at least one. Each URL once, and not all with weight 0.
	Targets []Target `yaml:"targets" required:"true"`
	// Which target a request goes to: of two at random, the one with fewer requests in flight
	// (least_in_flight), each target in turn (round_robin), or always the same for a user (user).
	// All respect the weights. Requests without a user go by least_in_flight.
	Balance Balance `yaml:"balance" default:"least_in_flight" oneof:"least_in_flight, round_robin, user"`
	// Asks each target at regular intervals whether it is healthy. Default: no health checks.
	Health *Health `yaml:"health"`
	// Keeps requests away from targets on which requests fail.
	Eject Eject `yaml:"eject"`
	// How to speak TLS to https targets; at least one target must be https. Default: trust the
	// system's authorities and show no certificate.
	TLS *ClientTLS `yaml:"tls"`
	// The Host header of requests to the targets: the host of the target's URL (target; on a
	// Unix socket localhost), the host that the client sent (client), or the same name or IP address for all requests,
	// with or without a port.
	Host string `yaml:"host" default:"target" as:"host"`
	// The longest time from the admission of a request to the headers of its final response.
	// After it, the request is answered 504. Routes can have their own.
	Timeout time.Duration `yaml:"timeout" default:"120s" min:"1ms" max:"1h"`
	// How long an unused connection to a target is kept. It must be shorter than the target
	// keeps one, so that no request is sent on a connection that the target is closing.
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"90s" min:"100ms" max:"1h"`
	// The age from which a connection to a target gets no more requests. So a changed DNS name
	// takes effect within this time. With 0s the age has no bound; otherwise it is at least 1s.
	MaxConnectionAge time.Duration `yaml:"max_connection_age" default:"60s" min:"0s" max:"1d"`
	// The largest body of a request. A larger one is answered 413. Routes can have their own.
	MaxBody int64 `yaml:"max_body" default:"32MiB" min:"1" as:"size"`
}

// The words that Upstream.Host can have instead of a host.
const (
	HostTarget = "target" // the host of the target's URL
	HostClient = "client" // the host that the client sent
)

// Balance is a way to choose between targets.
type Balance string

// The ways to choose between targets. All give each target its share by weight.
const (
	LeastInFlight Balance = "least_in_flight" // of two at random, the one with fewer requests in flight
	RoundRobin    Balance = "round_robin"     // in turn
	ByUser        Balance = "user"            // the same for a user
)

// A Target is one address of an upstream.
type Target struct {
	// An http, https or h2c URL with a host. Its path is put in front of the path of every
	// request. It must not have a query, a fragment, a user or a password. h2c is HTTP/2
	// without TLS, as for gRPC. Or unix: and the absolute path of a socket, on which the
	// gateway speaks HTTP/1.1.
	URL *url.URL `yaml:"url" required:"true"`
	// The share of the requests, relative to the weights of the other targets. With 0 the
	// target gets no new requests.
	Weight int `yaml:"weight" default:"1" min:"0" max:"1000"`
}

// Health asks each target at regular intervals. A target that does not answer 2xx gets no
// requests until it does.
type Health struct {
	// The path that is asked for with GET, after the path of the target's URL. It begins with
	// / and is canonical, without a query.
	Path string `yaml:"path" required:"true" as:"path"`
	// The time from one check to the next.
	Interval time.Duration `yaml:"interval" default:"5s" min:"100ms" max:"1h"`
	// How long a check may take. It must not be longer than the interval. Default: 2s, or
	// the interval if that is shorter.
	Timeout time.Duration `yaml:"timeout" default:"2s" min:"10ms" max:"1h"`
}

// Eject keeps requests away from a target for a while after several requests in a row have
// failed on it. The last target is never ejected.
type Eject struct {
	// How many connections in a row must fail.
	ConnectFailures int `yaml:"connect_failures" default:"3" min:"1" max:"100"`
	// How many responses in a row must be 5xx or malformed. With 0, responses never eject a target.
	ServerErrors int `yaml:"server_errors" default:"0" min:"0" max:"1000"`
	// How long the target gets no requests.
	For time.Duration `yaml:"for" default:"10s" min:"100ms" max:"1h"`
}
