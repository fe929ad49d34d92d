// Package upstream sends requests to one of several equivalent targets. A [Pool] is an
// [http.RoundTripper], and takes the place of an [http.Transport] in a reverse proxy.
//
// [Pool.RoundTrip] follows a request's way:
//
//	pick a target → build its request → send it → perhaps retry on another target
//
// Four things limit what a target gets:
//
//   - active health checks ask each target whether it is healthy (health.go);
//   - passive ejection takes out a target whose requests fail (eject.go);
//   - slow start gives a target that comes back a small, growing share (eject.go);
//   - an operator can drain a target (drain.go).
//
// The load balancing among the others is in balance.go and rendezvous.go.
//
// A request is sent twice only where that is safe: retry.go has the rules, and how they
// relate to net/http's own retries. conn.go saves the response of a target that answers
// before it has read the whole request, and keeps each response with its request. hold.go
// sends a header and a body that has arrived in one write. head.go makes up for what net/http
// hides of a response. cohort.go bounds the age of connections.
// Package direct sends what it can in the caller's goroutine, http.Transport the rest.
// schemes.go has the targets that are not http or https.
package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoTarget means that each target is drained, or unhealthy according to the health checks.
// Nothing was sent.
var ErrNoTarget = errors.New("no target can serve: each is unhealthy or drained")

// A Pool sends requests to the targets of one upstream. Its targets do not change: a
// reload makes another Pool. All methods may be called concurrently.
type Pool struct {
	options     Options // with defaults
	targets     []*target
	mayUseHTTP2 bool      // there is a target of https or h2c
	hasH2C      bool      // there is a target of h2c
	created     time.Time // moments count from here

	cohorts      atomic.Pointer[cohorts]
	newTransport func() *http.Transport
	// dialDirect connects for package direct.
	dialDirect func(ctx context.Context, network, addr string) (net.Conn, error)
	names      *nameBook // of the transports' dialer
	// rotating guards changes of cohorts, and retired.
	rotating sync.Mutex
	retired  bool

	roundRobinMu sync.Mutex // guards the targets' credit
	// mu guards changes of the targets' state. A request takes it only when a target
	// has failed or recovered.
	mu       sync.Mutex
	ctx      context.Context // of the health checks
	cancel   context.CancelFunc
	start    sync.Once
	checkers sync.WaitGroup
}

// A moment is a time in nanoseconds since the Pool was created, and never 0. It is
// monotonic: steps of the wall clock do not affect it.
type moment = int64

// A target is a Target and its state.
type target struct {
	url           *url.URL
	scheme        string // by which http.Transport knows it: see schemes.go
	socketHost    string // the same; empty: the URL's
	hostHeader    string // if it is not the URL's host
	h2c           bool
	name          string // the URL, for logs
	prefix        string // the URL's path without a trailing slash
	escapedPrefix string // the same, escaped
	hash          uint64 // of the name
	weight        int64  // 0: it gets nothing

	// Shared with the targets of this name in the pools before and after:
	inFlight *atomic.Int64
	drain    *atomic.Pointer[drain] // has nil while the target is not drained

	unhealthy atomic.Bool // according to the health checks

	connectionErrors atomic.Int64 // in a row
	serverErrors     atomic.Int64 // 5xx responses in a row
	ejectedUntil     atomic.Int64 // moment from which a trial may begin; 0: not ejected
	lastEjected      atomic.Int64 // moment of the last ejection; 0: never
	onTrial          atomic.Bool  // a request is under way that ends or renews the ejection
	slowStartSince   atomic.Int64 // moment since which its share grows; 0: it has its full share

	credit int64 // for RoundRobin; guarded by Pool.roundRobinMu

	// Guarded by Pool.mu:
	doublings      int    // of the ejection's length
	lastReadmitted moment // after the last ejection; 0: never
	checkErr       error  // of the last check
}

// New makes a Pool. It starts nothing. The error lists all faults of the options, one per
// line.
func New(o Options) (*Pool, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	d := newDialer(o)
	p := &Pool{
		options:      o,
		names:        d.names,
		newTransport: func() *http.Transport { return newTransport(o, d) },
		dialDirect:   d.dialDirect,
		created:      time.Now(),
	}
	for i, t := range o.Targets {
		p.mayUseHTTP2 = p.mayUseHTTP2 || t.URL.Scheme == schemeHTTPS || t.URL.Scheme == schemeH2C
		p.hasH2C = p.hasH2C || t.URL.Scheme == schemeH2C
		to := newTarget(i, t)
		to.hash = fnv1a(to.name)
		if !t.Off {
			to.weight = int64(max(t.Weight, 1))
		}
		to.inFlight, to.drain = new(atomic.Int64), new(atomic.Pointer[drain])
		p.targets = append(p.targets, to)
	}
	d.sockets = socketsOf(p.targets)
	p.cohorts.Store(p.newCohorts(p.newCohort(), p.now()))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// AdoptState takes over the last addresses of names, and the health, the ejections, the drains and the count of running
// requests of the targets that both pools have.
// It must be called before Start and before any request.
func (p *Pool) AdoptState(from *Pool) {
	from.mu.Lock()
	defer from.mu.Unlock()
	p.created = from.created // so that the moments of both mean the same
	for _, t := range p.targets {
		for _, old := range from.targets {
			if old.name != t.name {
				continue
			}
			t.inFlight, t.drain = old.inFlight, old.drain
			t.unhealthy.Store(old.unhealthy.Load() && p.options.Health != nil)
			t.connectionErrors.Store(old.connectionErrors.Load())
			t.serverErrors.Store(old.serverErrors.Load())
			t.lastEjected.Store(old.lastEjected.Load())
			t.ejectedUntil.Store(old.ejectedUntil.Load())
			t.slowStartSince.Store(old.slowStartSince.Load())
			t.doublings, t.lastReadmitted, t.checkErr = old.doublings, old.lastReadmitted, old.checkErr
		}
	}
	p.endDrainsIfAll()
	p.names.adopt(from.names)
}

// Start begins the health checks, if there is Options.Health; each target is checked at
// once. A target counts as healthy until two checks in a row have failed. Start does
// nothing when called again, or after Retire.
func (p *Pool) Start() {
	p.start.Do(func() {
		p.options.Connections.add(p)
		if p.options.Health == nil {
			return
		}
		for _, t := range p.targets {
			if t.weight == 0 {
				continue
			}
			p.checkers.Go(func() { p.runHealthChecks(t) })
		}
	})
}

// Retire ends the health checks and closes idle connections: at once, and again when the
// last response body has been closed. Requests in flight continue, streams included, and
// a late request is still served.
func (p *Pool) Retire() {
	p.start.Do(func() {}) // a later Start does nothing
	p.cancel()
	p.checkers.Wait() // not for long: their requests have been canceled
	p.retireCohorts()
	p.options.Connections.remove(p)
}

// requestEnded is called once for each request that pickTarget has counted.
func (p *Pool) requestEnded(t *target) {
	if t.inFlight.Add(-1) == 0 {
		if d := t.drain.Load(); d != nil {
			d.requestEnded(p.options.Log, t.name)
		}
	}
}

// A Status is the state of a target.
type Status struct {
	URL    string
	Weight int // 0: it is off
	// Share is the part of the requests that it gets now, 0 to 1.
	Share float64
	// Healthy is the verdict of the health checks; true without checks.
	Healthy bool
	// CheckError is why the last check failed; nil: it succeeded, or there was none.
	CheckError error
	// EjectedUntil is when an ejected target may be tried again. It may be in the past
	// if no request has tried yet. Zero: the target is not ejected.
	EjectedUntil time.Time
	// Drained is nil while the target is not drained.
	Drained *Drain
	// InFlight counts requests whose response body has not been closed, also those of the
	// pools before.
	InFlight int
}

// Targets returns the state of all targets, in the order of Options.Targets.
func (p *Pool) Targets() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, total, now := make([]Status, len(p.targets)), int64(0), p.now()
	for i, t := range p.targets {
		all[i] = Status{
			URL:        t.name,
			Weight:     int(t.weight),
			Healthy:    !t.unhealthy.Load(),
			CheckError: t.checkErr,
			InFlight:   int(t.inFlight.Load()),
		}
		if until := t.ejectedUntil.Load(); until != 0 {
			all[i].EjectedUntil = p.created.Add(time.Duration(until))
		}
		if d := t.drain.Load(); d != nil {
			all[i].Drained = &d.Drain
		}
		if share, trial := t.shareAt(now); !trial && !t.unhealthy.Load() && !t.isOut() {
			all[i].Share = float64(share)
			total += share
		}
	}
	for i := range all {
		all[i].Share /= float64(max(total, 1))
	}
	return all
}

// now is the present moment.
func (p *Pool) now() moment { return int64(time.Since(p.created)) + 1 }
