package upstream

import (
	"context"
	"net"
	"net/http"
)

// SetDial has a Pool connect through a test's own network.
func (p *Pool) SetDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	p.transport.DialContext = dial
}

// Answer has rt answer all that goes to http targets.
func (p *Pool) Answer(rt http.RoundTripper) { p.transport.RegisterProtocol("http", rt) }
