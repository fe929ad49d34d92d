package upstream

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// maxWeight bounds a weight, so that the sum of all weights cannot overflow.
const maxWeight = 1000

// A Target is one server.
type Target struct {
	// URL is an http, https or h2c URL with a host. Its path, if any, is put before the path
	// of every request. It must not have a user, query or fragment. Or it is unix: and the
	// absolute path of a socket, of at most MaxSocketPath bytes.
	URL *url.URL
	// Weight is the target's share of the requests, relative to the other targets: 1 to
	// 1000; 0 means 1.
	Weight int
	// Off gives the target no requests and no health checks. Those that still run on it,
	// because the pool before had it on, are counted. At least one target must be on.
	Off bool
}

// A Balance is the method that picks one of several targets.
type Balance int

const (
	// LeastInFlight picks two targets at random by weight and takes the one with fewer
	// requests in flight relative to its weight. A target never gets more than twice the
	// share that its weight stands for; without load it gets exactly that share.
	LeastInFlight Balance = iota
	// RoundRobin is nginx's smooth weighted round robin: the targets take turns, each as
	// often as its weight says and spread evenly. Weights 5, 1, 1 give a a b a c a a.
	RoundRobin
	// ByUser sends the requests of a user to the same target for as long as it can be picked:
	// rendezvous.go says how. Requests without a user go by LeastInFlight.
	ByUser
)

// Health configures active health checks.
type Health struct {
	// Path is the path of a check, with or without a query. It begins with a slash and is
	// appended to the path of the target's URL. Only a 2xx status counts as healthy: a
	// redirect says nothing about the target itself.
	Path string
	// Interval is the time between two checks of a target; 0 means 5 s.
	Interval time.Duration
	// Timeout is the longest that a check may take; 0 means 2 s.
	Timeout time.Duration
}

// Ejection configures passive outlier ejection: a target whose requests fail gets none
// for a while.
type Ejection struct {
	// ConnectionErrors is how many connection errors in a row eject a target: it could not
	// be reached, or closed the connection before it answered. 0 means 3.
	ConnectionErrors int
	// ServerErrors is how many 5xx responses in a row eject a target; 0 means that they
	// never do.
	ServerErrors int
	// For is how long a target is ejected; 0 means 10 s. Each repeated ejection doubles
	// it, up to 8 times For.
	For time.Duration
}

// Options configure a Pool. Only Targets is required.
type Options struct {
	// Targets has at least one target, and no two with the same URL.
	Targets []Target
	Balance Balance
	// Health enables active checks; nil: all targets count as healthy.
	Health   *Health
	Ejection Ejection
	// TLS is used for https targets, and is copied; nil: the system's roots, no client
	// certificate. Unless ServerName is set, the certificate must name the URL's host,
	// whatever the Host header says.
	TLS *tls.Config
	// Host is the Host header that the targets get; empty: the host of their URL, or localhost on
	// a Unix socket.
	Host string
	// KeepHost forwards the request's own Host header. If that is empty, it is the host
	// of the request's URL, as everywhere in net/http. It excludes Host.
	KeepHost bool
	// DialTimeout bounds connecting, and then again the TLS handshake; 0 means 10 s.
	DialTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept; 0 means 90 s.
	IdleTimeout time.Duration
	// MaxConnectionAge is the age from which a connection gets no new requests; it is closed
	// when the last one on it has ended. So a changed DNS name takes effect within this time.
	// 0: no bound.
	MaxConnectionAge time.Duration
	// Resolver finds the addresses of names; nil: net.DefaultResolver.
	Resolver *net.Resolver
	// Connections bounds the connections of several pools together; nil: there is no bound.
	Connections *Connections
	// Log reports targets that are taken out or come back; nil: no log.
	Log *slog.Logger
}

// validate returns all faults, one per line.
func (o Options) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(o.Targets) == 0 {
		fault("targets: at least one is required")
	}
	if len(o.Targets) > 0 && !slices.ContainsFunc(o.Targets, func(t Target) bool { return !t.Off }) {
		fault("targets: at least one must be on")
	}
	seen := map[string]bool{}
	for i, t := range o.Targets {
		if err := checkURL(t.URL); err != nil {
			fault("targets[%d].url: %w", i, err)
			continue
		}
		if seen[t.URL.String()] {
			fault("targets[%d].url: %s is listed twice", i, t.URL)
		}
		seen[t.URL.String()] = true
		if t.Weight < 0 || t.Weight > maxWeight {
			fault("targets[%d].weight: must be 1 to %d, got %d", i, maxWeight, t.Weight)
		}
	}
	if o.Balance < LeastInFlight || o.Balance > ByUser {
		fault("balance: unknown method %d", o.Balance)
	}
	if o.Host != "" && o.KeepHost {
		fault("host: set it or keep the client's, not both")
	}
	if h := o.Health; h != nil {
		if _, err := url.ParseRequestURI(h.Path); err != nil || h.Path[0] != '/' {
			fault("health.path: must be a path that starts with a slash, got %q", h.Path)
		}
		if h.Interval < 0 || h.Timeout < 0 {
			fault("health: interval and timeout must not be negative")
		}
	}
	if e := o.Ejection; e.ConnectionErrors < 0 || e.ServerErrors < 0 || e.For < 0 {
		fault("ejection: values must not be negative")
	}
	if o.DialTimeout < 0 {
		fault("dial timeout: must not be negative")
	}
	if o.IdleTimeout < 0 {
		fault("idle timeout: must not be negative")
	}
	if o.MaxConnectionAge < 0 {
		fault("maximum connection age: must not be negative")
	}
	return errors.Join(faults...)
}

// withDefaults replaces zero values by their defaults.
func (o Options) withDefaults() Options {
	if o.Health != nil {
		h := *o.Health
		h.Interval = cmp.Or(h.Interval, 5*time.Second)
		h.Timeout = cmp.Or(h.Timeout, 2*time.Second)
		o.Health = &h
	}
	o.Ejection.ConnectionErrors = cmp.Or(o.Ejection.ConnectionErrors, 3)
	o.Ejection.For = cmp.Or(o.Ejection.For, 10*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 10*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 90*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// bufferSize is the size of each of a connection's two buffers, in bytes.
const bufferSize = 2 << 10

// maxIdle is how many unused connections to a target are kept. With net/http's default of 2,
// gateways would dial again and again.
const maxIdle = 1024

func newTransport(o Options, d *dialer) *http.Transport {
	return &http.Transport{
		// No Proxy, so requests go to the target whatever HTTP_PROXY says.
		DialContext:           d.dial,
		DialTLSContext:        d.dialTLS,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       o.IdleTimeout,
		MaxIdleConns:          0, // no bound over all hosts
		MaxIdleConnsPerHost:   maxIdle,
		ForceAttemptHTTP2:     true,
		// A connection keeps both buffers while it waits for a slow response, so they are
		// small. Longer bodies bypass them.
		ReadBufferSize:     bufferSize,
		WriteBufferSize:    bufferSize,
		DisableCompression: true, // the client gets the encoding that it asked for
		// An HTTP/2 connection carries many requests. If it is dead but not closed, all of
		// them would hang until they time out, so pings find out.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}
