package proxy

import (
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// leaseMargin is how much longer a unit is held than its request can take: the
// time to settle, and clocks that do not run alike.
const leaseMargin = 10 * time.Second

// An Upstream is a service behind the gateway.
type Upstream struct {
	target    *url.URL
	timeout   time.Duration
	maxBody   int64
	transport *http.Transport
}

// NewUpstream describes a service. target is http or https; its path, if any, is
// put before every path. timeout runs from the reservation to the headers of the
// final response. maxBody bounds a request's body, in bytes.
func NewUpstream(target *url.URL, timeout time.Duration, maxBody int64) *Upstream {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &Upstream{
		target:  target,
		timeout: timeout,
		maxBody: maxBody,
		transport: &http.Transport{
			// No Proxy: requests go to the target, whatever HTTP_PROXY says.
			DialContext:           dialer.DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConns:          0,    // no bound for all hosts,
			MaxIdleConnsPerHost:   1024, // one for each; the default of 2 redials all the time
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // what the client asked for is what it gets
		},
	}
}

// Close closes the connections that no request uses.
func (u *Upstream) Close() { u.transport.CloseIdleConnections() }

// buffers are what bodies are copied through.
var buffers bufferPool

// A bufferPool is an httputil.BufferPool of 32 KiB buffers. It pools pointers to
// arrays: a slice would be allocated anew with each Put.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

func (p *bufferPool) Put(b []byte) {
	if len(b) == bufferSize {
		p.pool.Put((*[bufferSize]byte)(b))
	}
}
