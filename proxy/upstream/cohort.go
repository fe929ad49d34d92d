package upstream

import (
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"metergate/proxy/upstream/direct"
)

// Maximum connection age.
//
// http.Transport keeps a connection for as long as requests follow each other, so that a
// changed DNS name would never take effect, and it has no bound for that (golang/go#54429).
// Therefore each stretch of time has a transport of its own. Its connections are a cohort.
// None of them can be older than the cohort.
//
// The next cohort takes over bit by bit: the later it is, the more of the requests go to it.
// So connections are not all renewed at the same moment. The moment when that begins differs
// at random, so that gateways do not renew theirs together. With a maximum age of 60 s:
//
//	 0 s           the first request
//	15 s           all requests, until
//	36 to 45 s     the next cohort gets its first request
//	51 to 60 s     the next cohort gets all requests; the connections of this one are closed
//	               when they are idle
//
// No request is sent on a connection that is being closed. A transport closes what is idle
// under the lock under which it gives connections to requests.

// A cohort is the connections that were made within a stretch of time.
type cohort struct {
	direct    *direct.Transport // serves what it can, and hands the rest to transport
	transport *http.Transport
	h2c       *http.Transport // nil if no target is of h2c
	inFlight  atomic.Int64    // requests on all targets
	retired   atomic.Bool     // the next requests go to another cohort
}

// retire closes idle connections: at once, and when the last request has ended.
func (c *cohort) retire() {
	c.retired.Store(true)
	c.closeIdle()
}

// requestEnded is called once for each request that was counted in inFlight.
func (c *cohort) requestEnded() {
	if c.inFlight.Add(-1) == 0 && c.retired.Load() {
		c.closeIdle()
	}
}

func (c *cohort) closeIdle() {
	c.closeIdleNow()
	// An HTTP/2 stream whose client is gone counts for a moment longer, so its connection
	// is not idle yet.
	time.AfterFunc(time.Second, c.closeIdleNow)
}

func (c *cohort) closeIdleNow() {
	c.direct.CloseIdleConnections()
	c.transport.CloseIdleConnections()
	if c.h2c != nil {
		c.h2c.CloseIdleConnections()
	}
}

// roundTrip sends a request to a target. sent may be called, see direct.Transport.Send.
func (c *cohort) roundTrip(t *target, req *http.Request, sent func()) (*http.Response, error) {
	if t.h2c {
		return c.h2c.RoundTrip(req)
	}
	return c.direct.Send(req, sent)
}

// cohorts are those that get requests.
type cohorts struct {
	current, next *cohort // next is nil if the age has no bound
	// From handover on, some requests go to next, from end on all.
	handover, end moment
}

// shareOfHandover is the part of the maximum age during which two cohorts get requests.
const shareOfHandover = 4

// newCohorts returns the state for a cohort whose first request was not before began.
func (p *Pool) newCohorts(current *cohort, began moment) *cohorts {
	age := int64(p.options.MaxConnectionAge)
	if age == 0 {
		return &cohorts{current: current}
	}
	end := began + age - rand.Int64N(age*3/20+1)
	return &cohorts{current: current, next: p.newCohort(), handover: end - age/shareOfHandover, end: end}
}

func (p *Pool) newCohort() *cohort {
	c := &cohort{transport: p.newTransport()}
	c.direct = &direct.Transport{
		Dial:        p.dialDirect,
		Other:       c.transport,
		Inspect:     restoreHead,
		IdleTimeout: p.options.IdleTimeout,
		MaxIdle:     maxIdle,
		Log:         p.options.Log,
	}
	if p.hasH2C {
		c.h2c = p.newTransport()
		onlyHTTP2(c.h2c)
	}
	return c
}

// cohortForRequest returns a cohort whose connections are not too old.
func (p *Pool) cohortForRequest() *cohort {
	s := p.cohorts.Load()
	if s.next == nil {
		return s.current
	}
	now := p.now()
	if now < s.handover {
		return s.current
	}
	if now >= s.end {
		s = p.rotate(now)
	}
	if over := now - s.handover; over <= 0 || over < rand.Int64N(s.end-s.handover+1) {
		return s.current
	}
	return s.next
}

// rotate replaces a cohort that is too old.
func (p *Pool) rotate(now moment) *cohorts {
	p.rotating.Lock()
	defer p.rotating.Unlock()
	old := p.cohorts.Load()
	if now < old.end || p.retired {
		return old
	}
	s := p.newCohorts(old.next, old.handover)
	if now >= s.handover { // there were no requests for so long that it is as good as too old
		old.next.retire()
		s = p.newCohorts(p.newCohort(), now)
	}
	p.cohorts.Store(s)
	old.current.retire()
	return s
}

// retireCohorts is rotate without a successor: late requests go to the same cohorts.
func (p *Pool) retireCohorts() {
	p.rotating.Lock()
	defer p.rotating.Unlock()
	p.retired = true
	s := p.cohorts.Load()
	s.current.retire()
	if s.next != nil {
		s.next.retire()
	}
}

// closeIdle closes the connections that are idle now.
func (p *Pool) closeIdle() {
	s := p.cohorts.Load()
	s.current.closeIdleNow()
	if s.next != nil {
		s.next.closeIdleNow()
	}
}
