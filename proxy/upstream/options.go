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
	"time"
)

// maxWeight bounds a weight, so that sums of them cannot overflow.
const maxWeight = 1000

// A Target is one server.
type Target struct {
	// URL is http or https with a host. Its path, if any, is put before the path of
	// every request. It has no user, query or fragment.
	URL *url.URL
	// Weight is the target's share of the requests, in relation to the others': 1 to
	// 1000; 0: 1. A target that is to get nothing is left out.
	Weight int
}

// A Balance says how one of several targets is picked.
type Balance int

const (
	// LeastInFlight draws two targets by their weights and takes the one that has
	// fewer requests in flight for its weight. A target's share of the requests is
	// never more than twice its weight's; without load it is its weight's.
	LeastInFlight Balance = iota
	// RoundRobin takes the targets in turn, each as often as its weight says,
	// spread evenly: 5, 1, 1 is a a b a c a a. As nginx has it.
	RoundRobin
)

// Health says how targets are checked.
type Health struct {
	// Path is what a check gets, with or without a query; it begins with a slash and
	// comes behind the path of the target's URL. A status of 2xx is healthy, any
	// other is not: a redirect says nothing of the target.
	Path string
	// Interval is the time between two checks of a target; 0: 5 s.
	Interval time.Duration
	// Timeout is the longest that a check may take; 0: 2 s.
	Timeout time.Duration
}

// Ejection says when a target that fails its requests gets none for a while.
type Ejection struct {
	// ConnectionErrors in a row eject a target: it could not be reached, or broke
	// the connection off before it answered. 0: 3.
	ConnectionErrors int
	// ServerErrors in a row, responses of status 5xx, do so, too; 0: they never do.
	ServerErrors int
	// For is how long a target is ejected; 0: 10 s. Each repeat doubles it, up to
	// 8 times For.
	For time.Duration
}

// Options are what a Pool is made of. Only Targets is needed.
type Options struct {
	// Targets are one or more, no two with the same URL.
	Targets []Target
	Balance Balance
	// Health checks the targets; nil: all count as healthy.
	Health   *Health
	Ejection Ejection
	// TLS is for https targets, and is copied; nil: the system's roots, no client
	// certificate. The name in the certificate is the URL's host, whatever the Host
	// field says, unless ServerName is set.
	TLS *tls.Config
	// Host is the Host field that the targets see; empty: that of their URL.
	Host string
	// KeepHost leaves the request's own Host field (its URL's host if that is empty,
	// as everywhere in net/http); not with Host.
	KeepHost bool
	// DialTimeout is the longest that connecting may take, and again the TLS
	// handshake; 0: 10 s.
	DialTimeout time.Duration
	// Log tells of targets that go and come back; nil: nothing does.
	Log *slog.Logger
}

// check names all that is wrong, a line each.
func (o Options) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(o.Targets) == 0 {
		fault("targets: there must be one at least")
	}
	seen := map[string]bool{}
	for i, t := range o.Targets {
		if err := checkURL(t.URL); err != nil {
			fault("targets[%d].url: %w", i, err)
			continue
		}
		if seen[t.URL.String()] {
			fault("targets[%d].url: %s is there twice", i, t.URL)
		}
		seen[t.URL.String()] = true
		if t.Weight < 0 || t.Weight > maxWeight {
			fault("targets[%d].weight: must be 1 to %d, got %d", i, maxWeight, t.Weight)
		}
	}
	if o.Balance != LeastInFlight && o.Balance != RoundRobin {
		fault("balance: unknown")
	}
	if o.Host != "" && o.KeepHost {
		fault("host: cannot be both kept and set")
	}
	if h := o.Health; h != nil {
		if _, err := url.ParseRequestURI(h.Path); err != nil || h.Path[0] != '/' {
			fault("health.path: must be a path that begins with a slash, got %q", h.Path)
		}
		if h.Interval < 0 || h.Timeout < 0 {
			fault("health: times must not be negative")
		}
	}
	if e := o.Ejection; e.ConnectionErrors < 0 || e.ServerErrors < 0 || e.For < 0 {
		fault("ejection: numbers must not be negative")
	}
	if o.DialTimeout < 0 {
		fault("dial timeout: must not be negative")
	}
	return errors.Join(faults...)
}

func checkURL(u *url.URL) error {
	switch {
	case u == nil:
		return errors.New("is missing")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("must begin with http:// or https://, got %q", u.Redacted())
	case u.Hostname() == "":
		return fmt.Errorf("has no host: %q", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("must have no user, query or fragment: %q", u.Redacted())
	}
	return nil
}

// withDefaults fills in what was left at zero.
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
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func newTransport(o Options) *http.Transport {
	dialer := &net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		// No Proxy: requests go to the target, whatever HTTP_PROXY says.
		DialContext:           dialer.DialContext,
		TLSClientConfig:       o.TLS.Clone(), // nil stays nil
		TLSHandshakeTimeout:   o.DialTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          0,    // no bound for all hosts,
		MaxIdleConnsPerHost:   1024, // one for each; the default of 2 redials all the time
		ForceAttemptHTTP2:     true,
		// A connection that waits for a slow answer keeps both. Longer bodies go past them.
		ReadBufferSize:     2 << 10,
		WriteBufferSize:    2 << 10,
		DisableCompression: true, // what the client asked for is what it gets
		// An HTTP/2 connection carries many requests. One that is dead without
		// having been closed would hold all of them until their time is up.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}
