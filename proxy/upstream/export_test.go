package upstream

import (
	"context"
	"net"
	"net/http"
	"time"
)

// SetDial makes a Pool connect through a test's own network.
func (p *Pool) SetDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	p.changeTransports(func(t *http.Transport) { t.DialContext = dial })
}

// NewTargetConn makes a connection to a target, as a Pool has it.
func NewTargetConn(c net.Conn) net.Conn { return newTargetConn(c) }

// AnswerAll makes rt answer every request to an http target.
func (p *Pool) AnswerAll(rt http.RoundTripper) {
	p.changeTransports(func(t *http.Transport) { t.RegisterProtocol("http", rt) })
}

// changeTransports must be called before any request.
func (p *Pool) changeTransports(change func(*http.Transport)) {
	newTransport := p.newTransport
	p.newTransport = func() *http.Transport {
		t := newTransport()
		change(t)
		return t
	}
	p.dialDirect = nil
	p.cohorts.Store(p.newCohorts(p.newCohort(), p.now()))
}

// SetRetryNameAfter sets how long a failed lookup is not repeated.
func (p *Pool) SetRetryNameAfter(d time.Duration) { p.names.retryAfter = d }

// TargetFor returns the URL of the target that a user's request goes to; empty: there is none.
func (p *Pool) TargetFor(user string) string {
	if t, _ := p.chooseTarget(nil, p.keyOf(user)); t != nil {
		return t.name
	}
	return ""
}

// TargetsFor returns that of TargetFor, and the one on which the request is retried.
func (p *Pool) TargetsFor(user string) (first, second string) {
	t, _ := p.chooseTarget(nil, p.keyOf(user))
	other, _ := p.chooseTarget(t, p.keyOf(user))
	return t.name, other.name
}
