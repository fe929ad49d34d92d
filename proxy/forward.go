package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"metergate/proxy/tracing"
	"metergate/proxy/trust"
	"metergate/proxy/upstream"
	"metergate/proxy/urlpath"
	"metergate/quota"
)

var (
	errBodyTooLarge      = errors.New("the request body is too large")
	errBodyIncomplete    = errors.New("the request body is malformed or incomplete")
	errUpgradeRefused    = errors.New("the request asks for a protocol upgrade, which its route does not allow")
	errUpstreamTimeout   = errors.New("the upstream did not answer in time")
	errUnexpectedUpgrade = errors.New("the upstream switched protocols without being asked")
)

// checkForwardable refuses what must not reach an upstream, before anything is
// reserved. It reports whether client and route agree to switch protocols. Errors:
// errLoop, errBodyTooLarge, errUpgradeRefused.
func (x *exchange) checkForwardable() (upgrade bool, err error) {
	if x.g.via.isIn(x.in.Header) {
		return false, errLoop
	}
	if x.in.ContentLength > x.route.MaxBody {
		return false, errBodyTooLarge
	}
	// What follows a switch of protocols is not metered. An offer of h2c is ignored, as
	// RFC 9110 section 7.8 allows: Java's client sends one with every request on a plain
	// connection. So is any other offer that comes with h2c, with a body, or with
	// HTTP/1.0.
	h2c, other := false, false
	for _, line := range x.in.Header["Upgrade"] {
		for protocol := range strings.SplitSeq(line, ",") {
			p := strings.TrimSpace(protocol)
			h2c = h2c || strings.EqualFold(p, "h2c")
			other = other || p != "" && !strings.EqualFold(p, "h2c")
		}
	}
	if other && !x.route.Upgrade {
		return false, errUpgradeRefused
	}
	return other && !h2c && x.in.ContentLength == 0 && x.in.ProtoAtLeast(1, 1), nil
}

// A forwarding is the state of an exchange on its way to the upstream and back.
type forwarding struct {
	*exchange
	upgrade bool // client and route agree to switch protocols
	cutoff  cutoff
	body    *requestBody // nil if there is none
	// gatewayHeaders are the response headers that were set before forwarding. They are
	// kept here because ReverseProxy clears the ResponseWriter's headers after an
	// informational response (1xx). Mostly it is one, for which a map would be large.
	gatewayHeaders []headerValues
	connection     []string // the Connection header of the upstream's response
	costHeader     []string // the header of that response that reports the cost
	sentAt         time.Time
	*costReading   // nil unless the bodies of the route's responses report the cost
}

// forward sends the request to the upstream and its response to the client. In
// between, once the outcome is known, it settles the reservation if there is one.
func (x *exchange) forward(upgrade bool) {
	f := &forwarding{exchange: x, upgrade: upgrade}
	x.forwarding = f
	client := x.in.Context()
	if x.route.Cost.isInBody() {
		client = context.WithoutCancel(client)
	}
	ctx, cancel := context.WithCancelCause(client)
	defer cancel(nil)
	if x.route.Cost.isInBody() {
		f.costReading = &costReading{ctx: ctx, cancel: cancel}
		f.followClient()
		defer f.endCost()
	}
	f.cutoff.start(x.route.Timeout, x.w, x.in, cancel)
	defer f.cutoff.stop()

	f.setGatewayHeadersAside()
	in := x.in.WithContext(ctx)
	if in.ContentLength != 0 {
		f.body = &requestBody{ReadCloser: in.Body, left: x.route.MaxBody, hook: x.readHook()}
		if in.ProtoMajor == 1 {
			f.body.w = x.w
			f.body.takeArrived(in)
		}
		in.Body = f.body
		defer f.body.stop()
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        f.rewriteRequest,
		ModifyResponse: f.handleResponse,
		ErrorHandler:   f.handleError,
		Transport:      f,
		BufferPool:     &buffers,
		ErrorLog:       x.g.errorLog,
	}
	f.sentAt = time.Now()
	proxy.ServeHTTP(x.w, in)
	f.cleanTrailers()
	if f.costReading != nil && f.trailsCost {
		f.reportCost(f.w.Header())
	}
}

// RoundTrip makes f the transport of its ReverseProxy, which removes the Connection header, and the
// headers that it names, before handleResponse is called. An upstream may name the one that tells
// the cost: it is for the gateway alone.
func (f *forwarding) RoundTrip(out *http.Request) (*http.Response, error) {
	res, err := f.sendOut(out)
	if err == nil {
		f.connection, f.costHeader = res.Header["Connection"], res.Header[f.route.Cost.Header]
	}
	return res, err
}

// A userTransport may choose the target by the user, whose account may be empty, and makes a span of each try to
// send a request.
type userTransport interface {
	RoundTripFor(out *http.Request, account string, span *tracing.Span) (*http.Response, error)
}

func (f *forwarding) sendOut(out *http.Request) (*http.Response, error) {
	if t, ok := f.route.Upstream.(userTransport); ok {
		return t.RoundTripFor(out, f.account, f.span)
	}
	return f.route.Upstream.RoundTrip(out)
}

// headerValues are the values of one header.
type headerValues struct {
	name   string
	values []string
}

func (f *forwarding) setGatewayHeadersAside() {
	h := f.w.Header()
	f.gatewayHeaders = make([]headerValues, 0, len(h))
	for name, values := range h {
		f.gatewayHeaders = append(f.gatewayHeaders, headerValues{name, values})
	}
	clear(h)
}

// rewriteRequest makes the request that the upstream gets.
func (f *forwarding) rewriteRequest(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = "http", "upstream" // Route.Upstream replaces both
	// ReverseProxy drops parameters that Go cannot parse. The query is the upstream's
	// business.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	stripPrefix(r.Out.URL, f.route.StripPrefix)
	h := r.Out.Header
	f.g.untrusted.Remove(h, f.origin)
	f.origin.SetForwardedHeaders(r)
	if f.body != nil {
		r.Out.Body = f.body // ReverseProxy hides its Close, see requestBody.Close
	}
	// ReverseProxy announces a client's trailers but does not send them.
	r.Out.Trailer = nil
	// With a client's "Connection: Authorization", ReverseProxy drops the token, and the
	// upstream would take the request for one that needs none.
	if token := r.In.Header["Authorization"]; token != nil && !f.route.DropAuthorization {
		h["Authorization"] = token
	} else {
		h.Del("Authorization")
	}
	f.removeCredentials(r.Out)
	if f.route.Cost.isInBody() {
		h["Accept-Encoding"] = []string{"identity"}
	}
	h.Set(trust.HeaderRequestID, f.id)
	// ReverseProxy puts these two back for protocols other than HTTP.
	if !f.upgrade {
		h.Del("Upgrade")
		h.Del("Connection")
	}
	h.Del("Http2-Settings")
	f.g.via.addTo(h, r.In)
	if f.route.UserHeader != "" {
		h.Set(f.route.UserHeader, headerText(f.user.User))
	}
	if f.route.PlanHeader != "" {
		h.Set(f.route.PlanHeader, headerText(f.plan.Name()))
	}
}

// removeCredentials removes from a request for the upstream what only the gateway needs. A token in
// the Authorization header is not among it: the upstream may look at it as well.
func (f *forwarding) removeCredentials(out *http.Request) {
	sources := &f.g.sources
	out.URL.RawQuery = sources.RemoveParameter(out.URL.RawQuery)
	sources.RemoveFromReferer(out.Header)
	sources.RemoveKey(out.Header)
	if !f.route.KeepCookie {
		sources.RemoveCookie(out.Header)
	}
}

// stripPrefix cuts prefix off the path of u.
func stripPrefix(u *url.URL, prefix string) {
	if prefix == "" {
		return
	}
	_, raw := urlpath.CutPrefix(u.EscapedPath(), prefix)
	if path, err := url.PathUnescape(raw); err == nil {
		u.Path, u.RawPath = path, raw
	}
}

// handleResponse gets the headers of the upstream's final response before the client
// does. This is where a reservation is settled when the upstream has answered.
func (f *forwarding) handleResponse(res *http.Response) error {
	f.record.upstream = time.Since(f.sentAt)
	if res.Request != nil {
		f.record.target = res.Request.URL
	}
	if !f.cutoff.stop() {
		return errUpstreamTimeout
	}
	if res.StatusCode == http.StatusSwitchingProtocols && !f.upgrade {
		return errUnexpectedUpgrade
	}
	var usage *quota.Snapshot
	if f.route.Endpoint != "" {
		usage = f.settle(res)
	}
	exposed := res.Header[headerExpose]
	f.cleanHeaders(res)
	f.cleanSection(res.Trailer, f.connection) // those that were announced
	askForUnbuffered(res.Header)
	if _, ok := res.Header["Content-Type"]; !ok {
		f.w.Header()["Content-Type"] = nil // otherwise net/http guesses one from the body
	}
	h := f.handOver(res)
	if usage != nil {
		f.reportUsage(h, usage, -1)
	}
	f.reportCost(h)
	f.announceCost(h)
	for _, own := range f.gatewayHeaders {
		values := own.values
		switch own.name {
		case "Vary":
			values = mergeLists(values, h["Vary"])
		case headerExpose: // set only for an origin that CORS allows
			values = mergeLists(values, exposed)
		}
		h[own.name] = values
	}
	if f.body != nil && !f.body.complete.Load() && f.in.ProtoMajor == 1 {
		// The upstream answers before it has read the whole body. net/http would hold the
		// answer back, see skipBody.
		h["Connection"] = []string{"close"}
	}
	f.record.status = res.StatusCode
	return nil
}

// handOver moves the headers of a final response to those of the client's response, which it returns:
// ReverseProxy would copy each with allocations of its own. It leaves what ReverseProxy still looks at: the
// type of the content, and all headers of a 101 response.
func (f *forwarding) handOver(res *http.Response) http.Header {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res.Header
	}
	h := f.w.Header()
	for name, values := range res.Header {
		if name != "Content-Type" {
			h[name] = values
			delete(res.Header, name)
		}
	}
	return h
}

// cleanHeaders makes the headers of a final response fit for the client. ReverseProxy has
// removed most of what belongs to the connection, but nothing from a 101 response.
func (f *forwarding) cleanHeaders(res *http.Response) {
	h := res.Header
	delete(h, "Proxy-Authentication-Info")
	if res.StatusCode == http.StatusSwitchingProtocols {
		protocol := h["Upgrade"]
		removeNominated(h, f.connection)
		switched := h["Upgrade"] == nil && protocol != nil
		removeHopByHop(h)
		if switched { // otherwise ReverseProxy answers 502
			h["Connection"], h["Upgrade"] = []string{"Upgrade"}, protocol
		}
	}
	f.removeGatewayHeaders(h)
}

// cleanTrailers is called when the response has been written. Once one of the trailers was
// not announced, ReverseProxy has put all of them among the headers, with a prefix.
func (f *forwarding) cleanTrailers() {
	h := f.w.Header()
	var trailers http.Header
	for name, values := range h {
		if trailer, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			if trailers == nil {
				trailers = http.Header{}
			}
			trailers[trailer] = values
			delete(h, name)
		}
	}
	f.cleanSection(trailers, f.connection)
	for name, values := range trailers {
		h[http.TrailerPrefix+name] = values
	}
}

// handleError answers when the upstream has not. The reservation is given back.
func (f *forwarding) handleError(_ http.ResponseWriter, out *http.Request, err error) {
	f.record.upstream = time.Since(f.sentAt)
	var failed *upstream.TargetError
	if errors.As(err, &failed) {
		f.record.target = failed.URL
	}
	err, reason := f.explain(err, out)
	h := f.w.Header()
	clear(h)
	for _, own := range f.gatewayHeaders {
		h[own.name] = own.values
	}
	if s := f.release(reason); s != nil {
		f.reportUsage(h, s, -1)
	}
	f.fail(err)
}

// explain finds out why the upstream did not answer: the transport's error is often
// only the consequence.
func (f *forwarding) explain(err error, out *http.Request) (error, releaseReason) {
	switch {
	case f.body != nil && f.body.exceeded.Load():
		return errBodyTooLarge, releasedBody
	case errors.Is(context.Cause(out.Context()), errUpstreamTimeout):
		return errUpstreamTimeout, releasedTimeout
	case errors.Is(err, upstream.ErrUploadCut): // net/http may take the end of the read for that of the client
		return &upstreamError{err}, releasedUnreachable
	case f.body != nil && f.body.gone.Load():
		return errClientGone, releasedClientGone
	case f.body != nil && f.body.broken.Load():
		return errBodyIncomplete, releasedBody
	case f.in.Context().Err() != nil:
		// net/http ends the context before the Read that finds the end of the connection.
		if f.body != nil && f.in.ProtoMajor == 1 && f.body.endedBroken() {
			return errBodyIncomplete, releasedBody
		}
		return errClientGone, releasedClientGone
	case errors.Is(err, upstream.ErrNoConnection):
		f.noteOverload("connections")
		return &upstreamError{err}, releasedOther
	}
	return &upstreamError{err}, releasedUnreachable
}

// A cutoff ends the wait for an upstream's response when its time is up. The
// transport's ResponseHeaderTimeout would start only after the upload.
type cutoff struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	expired bool
}

// start begins the time d, after which the cutoff cancels the request with
// errUpstreamTimeout and ends the read of its body:
//
//   - The transport does not return before that read has ended, and a client may hold
//     its body back for ever.
//   - With HTTP/1 the read may hang in a write, that of "100 Continue".
//   - A request without a body has no such read. net/http has one in its place, to
//     notice that the client goes. It must not time out: all later requests on the
//     connection would begin with a cancelled context.
func (c *cutoff) start(d time.Duration, w http.ResponseWriter, r *http.Request, cancel context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(d, func() {
		// Under the lock, so that it cannot affect the connection's next request.
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stopped {
			return
		}
		c.expired = true
		cancel(errUpstreamTimeout)
		if r.ContentLength == 0 {
			return
		}
		control := http.NewResponseController(w)
		control.SetReadDeadline(time.Now())
		if r.ProtoMajor == 1 {
			control.SetWriteDeadline(time.Now()) // the next write sets another one
		}
	})
}

// stop ends the cutoff: from now on it does nothing. It reports whether that was in
// time; false means that the time was up.
func (c *cutoff) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.timer.Stop()
	return !c.expired
}
