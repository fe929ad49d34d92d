// Package upstream sends requests to one of several targets that serve the same.
// A [Pool] is an [http.RoundTripper], and so takes the place of an [http.Transport]
// in a reverse proxy.
//
// A request goes one way, and [Pool.RoundTrip] reads like it:
//
//	pick a target → make its request → send it → perhaps once more, elsewhere
//
// Three things keep a target from being picked. Active checks ask each target on
// their own whether it is healthy (health.go). Passive ejection sees how it does
// with requests (eject.go). And a target that comes back from either takes a small
// share first, that grows. Among the others the choice is balance.go's.
//
// A request is sent twice only where that does no harm: retry.go has the rules,
// and what net/http's own retries have to do with them.
package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoTarget: the active checks find no target healthy. Nothing was sent.
var ErrNoTarget = errors.New("no target is healthy")

// A Pool sends requests to the targets of one upstream. It does not change: for
// other targets there is another Pool. All methods can be used concurrently.
type Pool struct {
	options   Options // with defaults
	targets   []*target
	transport *http.Transport
	mayHTTP2  bool
	born      time.Time // what moments count from

	turn sync.Mutex // of RoundRobin
	// mu orders what changes the targets' state. It is not taken on a request's path
	// as long as all goes well.
	mu       sync.Mutex
	retired  atomic.Bool
	ctx      context.Context // of the checks
	cancel   context.CancelFunc
	start    sync.Once
	checkers sync.WaitGroup
}

// A moment is a time in nanoseconds since the Pool was made, and never 0. Steps of
// the wall clock do not touch it.
type moment = int64

// A target is a Target and how it does.
type target struct {
	url    *url.URL
	name   string // the URL, for logs
	prefix string // the URL's path without a slash at its end
	raw    string // the same, escaped
	weight int64

	inFlight atomic.Int64
	down     atomic.Bool // the checks say so

	failures     atomic.Int64 // connection errors in a row
	serverErrors atomic.Int64 // responses of 5xx in a row
	until        atomic.Int64 // moment when a trial may begin; 0: it is not ejected
	ejected      atomic.Int64 // moment of the last ejection; 0: it never was
	trial        atomic.Bool  // a request is under way that ends the ejection, or renews it
	back         atomic.Int64 // moment since when its share grows; 0: it has all of it

	current int64 // RoundRobin's, under Pool.turn

	// Under Pool.mu:
	repeats    int    // how often the ejection is doubled
	readmitted moment // after the last ejection; 0: it never was
	checkErr   error  // of the last check
}

// New makes a Pool. It starts nothing. The error names all that is wrong with the
// options.
func New(o Options) (*Pool, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	p := &Pool{
		options:   o,
		transport: newTransport(o),
		born:      time.Now(),
	}
	for _, t := range o.Targets {
		p.mayHTTP2 = p.mayHTTP2 || t.URL.Scheme == "https"
		p.targets = append(p.targets, &target{
			url:    t.URL,
			name:   t.URL.String(),
			prefix: strings.TrimSuffix(t.URL.Path, "/"),
			raw:    strings.TrimSuffix(t.URL.EscapedPath(), "/"),
			weight: int64(max(t.Weight, 1)),
		})
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Inherit takes over what another Pool knows of the targets that both have: their
// health and their ejections. Before Start, and before any request.
func (p *Pool) Inherit(from *Pool) {
	from.mu.Lock()
	defer from.mu.Unlock()
	p.born = from.born // moments count from it
	for _, t := range p.targets {
		for _, old := range from.targets {
			if old.name != t.name {
				continue
			}
			t.down.Store(old.down.Load() && p.options.Health != nil)
			t.failures.Store(old.failures.Load())
			t.serverErrors.Store(old.serverErrors.Load())
			t.ejected.Store(old.ejected.Load())
			t.until.Store(old.until.Load())
			t.back.Store(old.back.Load())
			t.repeats, t.readmitted, t.checkErr = old.repeats, old.readmitted, old.checkErr
		}
	}
}

// Start begins the health checks, the first of each target at once. Until two of
// them have failed, a target counts as healthy. Again, or without Options.Health,
// or after Retire, it does nothing.
func (p *Pool) Start() {
	if p.options.Health == nil {
		return
	}
	p.start.Do(func() {
		for _, t := range p.targets {
			p.checkers.Go(func() { p.watch(t) })
		}
	})
}

// Retire ends the health checks and closes the connections that no request uses:
// at once, and again when the last response has been closed. Requests in flight go
// on, streams too, and one that comes late is still served.
func (p *Pool) Retire() {
	p.start.Do(func() {}) // from now on there is nothing to start
	p.retired.Store(true)
	p.cancel()
	p.checkers.Wait() // short: their requests have been cancelled
	p.closeIdle()
}

// done ends a request. It is called once for each that was begun.
func (p *Pool) done(t *target) {
	t.inFlight.Add(-1)
	if !p.retired.Load() {
		return
	}
	for _, t := range p.targets {
		if t.inFlight.Load() > 0 {
			return
		}
	}
	p.closeIdle()
}

func (p *Pool) closeIdle() {
	p.transport.CloseIdleConnections()
	// A stream of HTTP/2 whose client is gone counts for a moment longer, and its
	// connection is not idle yet.
	time.AfterFunc(time.Second, p.transport.CloseIdleConnections)
}

// A Status says how a target does.
type Status struct {
	URL    string
	Weight int
	// Healthy is what the active checks say; true without them.
	Healthy bool
	// CheckError is why the last check failed; nil: it did not, or there was none.
	CheckError error
	// EjectedUntil is when an ejected target may be tried again, which may be in the
	// past while no request has tried; zero: it is not ejected.
	EjectedUntil time.Time
	// InFlight counts requests whose response has not been closed.
	InFlight int
}

// Targets says how the targets do, in the order of Options.Targets.
func (p *Pool) Targets() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, len(p.targets))
	for i, t := range p.targets {
		all[i] = Status{
			URL:        t.name,
			Weight:     int(t.weight),
			Healthy:    !t.down.Load(),
			CheckError: t.checkErr,
			InFlight:   int(t.inFlight.Load()),
		}
		if until := t.until.Load(); until != 0 {
			all[i].EjectedUntil = p.born.Add(time.Duration(until))
		}
	}
	return all
}

// now is the present moment.
func (p *Pool) now() moment { return int64(time.Since(p.born)) + 1 }
