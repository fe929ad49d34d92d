package upstream

import (
	"context"
	"net"
	"net/http"
)

// SetDial makes a Pool connect through a test's own network.
func (p *Pool) SetDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	p.transport.DialContext = dial
}

// AnswerAll makes rt answer every request to an http target.
func (p *Pool) AnswerAll(rt http.RoundTripper) { p.transport.RegisterProtocol("http", rt) }
