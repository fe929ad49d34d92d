package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"metergate/quota"
)

var (
	errBodyTooLarge    = errors.New("the request's body is too large")
	errBodyBroken      = errors.New("the request's body is malformed, or broke off")
	errUpgrade         = errors.New("the request asks for another protocol")
	errUpstreamTimeout = errors.New("the upstream did not answer in time")
	errUninvited101    = errors.New("the upstream switched protocols unasked")
)

// leaseMargin is how much longer a unit is held than its request can take: the
// time to settle, and clocks that do not run alike.
const leaseMargin = 10 * time.Second

// checkForwardable refuses what must not reach an upstream, before anything is
// reserved. Errors: errBodyTooLarge, errUpgrade.
func (x *exchange) checkForwardable() error {
	if x.in.ContentLength > x.route.MaxBody {
		return errBodyTooLarge
	}
	// What follows a switch of protocols is not metered. HTTP/2 on a plain
	// connection is what Java's client offers with every request; as RFC 9110
	// section 7.8 allows, the offer is ignored. So is any other that comes with it,
	// with a body, or with HTTP/1.0.
	h2c, other := false, false
	for _, line := range x.in.Header["Upgrade"] {
		for protocol := range strings.SplitSeq(line, ",") {
			p := strings.TrimSpace(protocol)
			h2c = h2c || strings.EqualFold(p, "h2c")
			other = other || p != "" && !strings.EqualFold(p, "h2c")
		}
	}
	if other && !x.route.Upgrade {
		return errUpgrade
	}
	x.upgrade = other && !h2c && x.in.ContentLength == 0 && x.in.ProtoAtLeast(1, 1)
	return nil
}

// reserve holds a unit of the user's quota. It returns an *errQuota when there is
// none, an *errAttempts when the user has tried too often, an *errStore when the store
// does not let the request pass, and errClientGone when nobody waits for the answer any
// more: who opens and resets requests in a loop (CVE-2023-44487) does not have the store
// work.
func (x *exchange) reserve() error {
	defer took(&x.took.reserve)()
	if x.in.Context().Err() != nil {
		return errClientGone
	}
	d, err := x.g.store.Reserve(x.in.Context(), quota.Request{
		ID:       quota.NewID(),
		User:     x.user.User,
		Endpoint: x.route.Endpoint,
		Plans:    x.terms,
		Lease:    x.route.Timeout + leaseMargin,
		Observe:  x.route.Observe,
	})
	if d.Reservation.Plan != nil {
		x.plan = d.Reservation.Plan
	}
	switch {
	case err != nil && x.in.Context().Err() != nil:
		return errClientGone
	case err != nil:
		x.outcome = "error"
		return &errStore{err}
	case d.AttemptWait > 0:
		x.outcome = "throttled"
		return &errAttempts{x.route.Endpoint, x.user.User, d.AttemptWait, &d.Snapshot}
	case !d.Admitted:
		x.outcome = "refused"
		return &errQuota{x.route.Endpoint, x.user.User, &d.Snapshot}
	case len(d.WouldBlock) > 0: // unchecked or not: that alone has a metric of its own
		x.outcome = "observed"
		x.tellObserved(d.WouldBlock)
	case d.Reservation.Unchecked:
		x.outcome = "unchecked"
	default:
		x.outcome = "admitted"
	}
	// A copy: the numbers beside it need not wait for the upstream as well.
	x.held = d.Reservation
	x.reservation = &x.held
	return nil
}

// settle ends the reservation, once: with a reason it gives it back, with counted it
// counts it. Whether the client is still there does not matter. It returns nil after an
// error, and when there was nothing to settle.
func (x *exchange) settle(reason string) *quota.Snapshot {
	r := x.reservation
	if r == nil {
		return nil
	}
	defer took(&x.took.settle)()
	ctx := context.WithoutCancel(x.in.Context())
	var s *quota.Snapshot
	var err error
	if reason == counted {
		s, err = x.g.store.Commit(ctx, r)
	} else {
		s, err = x.g.store.Release(ctx, r)
	}
	x.reservation = nil // only now: after a panic it is to be given back
	if err != nil {
		x.unsettled(r, reason, err)
		return nil
	}
	if !r.Unchecked && !s.Stale {
		// Reserve and settle were answered: no copy of them is on its way.
		x.g.store.Forget(r)
	}
	if reason == counted {
		x.g.metrics.counted.WithLabelValues(r.Endpoint).Inc()
	} else {
		x.g.metrics.released.WithLabelValues(reason).Inc()
	}
	return s
}

func (x *exchange) unsettled(r *quota.Reservation, reason string, err error) {
	x.g.metrics.unsettled.Inc()
	x.g.log.Error("a request may not be counted",
		"request_id", x.id, "reservation", r.ID, "endpoint", r.Endpoint, "succeeded", reason == counted, "error", err)
}

// forward sends the request to the upstream and its response to the client. The
// reservation, if there is one, is settled in between.
func (x *exchange) forward() {
	// Given back also when something below panics.
	defer x.settle(releasedOther)

	ctx, cancel := context.WithCancelCause(x.in.Context())
	defer cancel(nil)
	x.cutoff = startCutoff(x.route.Timeout, x, cancel)
	defer x.cutoff.stop()

	x.keepOwn()
	in := x.in.WithContext(ctx)
	if in.ContentLength != 0 {
		x.body = &requestBody{ReadCloser: in.Body, left: x.route.MaxBody}
		in.Body = x.body
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		ModifyResponse: x.answered,
		ErrorHandler:   x.failed,
		Transport:      x.route.Upstream,
		BufferPool:     &buffers,
		ErrorLog:       x.g.errorLog,
	}
	x.asked = time.Now()
	proxy.ServeHTTP(x.w, in)
	x.disownTrailers()
}

// keepOwn puts the gateway's own fields aside: an informational response (1xx) clears
// w's header, as ReverseProxy has it.
func (x *exchange) keepOwn() {
	x.own = maps.Clone(x.w.Header())
	clear(x.w.Header())
}

// disownTrailers is disown for trailers that were not announced. With one of them, all
// are here.
func (x *exchange) disownTrailers() {
	for name := range x.w.Header() {
		if field, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && x.owns(field) {
			x.w.Header().Del(name)
		}
	}
}

// rewrite makes the request that the upstream gets.
func (x *exchange) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = "http", "upstream" // for the Upstream to fill in
	// ReverseProxy leaves out parameters that Go cannot parse. The query is the
	// upstream's business.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	stripPrefix(r.Out.URL, x.route.StripPrefix)
	h := r.Out.Header
	x.g.untrusted.remove(h)
	x.origin.tell(r)
	// ReverseProxy announces the trailers of a client and does not send them.
	r.Out.Trailer = nil
	// A client's "Connection: Authorization" would have the upstream take the request
	// for one that needs none.
	if token := r.In.Header["Authorization"]; token != nil && !x.route.DropAuthorization {
		h["Authorization"] = token
	} else {
		h.Del("Authorization")
	}
	h.Set(fieldRequestID, x.id)
	// ReverseProxy adds them back for protocols other than HTTP.
	if !x.upgrade {
		h.Del("Upgrade")
		h.Del("Connection")
	}
	h.Del("Http2-Settings")
	if x.route.UserField != "" {
		h.Set(x.route.UserField, fieldText(x.user.User))
	}
	if x.route.PlanField != "" {
		h.Set(x.route.PlanField, fieldText(x.plan.Name()))
	}
}

// stripPrefix cuts as many segments off the path of u as prefix has. Not its bytes:
// routes match decoded segments, and the request may have escaped one that the prefix
// has not.
func stripPrefix(u *url.URL, prefix string) {
	raw := u.EscapedPath()
	for range strings.Count(prefix, "/") {
		_, rest, more := strings.Cut(raw[1:], "/")
		if raw = "/"; more {
			raw += rest
		}
	}
	if prefix == "" {
		return
	}
	if path, err := url.PathUnescape(raw); err == nil {
		u.Path, u.RawPath = path, raw
	}
}

// answered sees the final response's headers before the client does.
func (x *exchange) answered(res *http.Response) error {
	x.took.upstream = time.Since(x.asked)
	if res.Request != nil {
		x.target = res.Request.URL
	}
	if !x.cutoff.stop() {
		return errUpstreamTimeout
	}
	if res.StatusCode == http.StatusSwitchingProtocols && !x.upgrade {
		return errUninvited101
	}
	x.disown(res.Header)
	x.disown(res.Trailer) // as announced
	if x.route.Endpoint != "" {
		if s := x.settle(settlementOf(res.StatusCode)); s != nil {
			x.tellUsage(res.Header, s, -1)
		}
	}
	for name, values := range x.own {
		if name == "Vary" {
			values = append(values, res.Header[name]...)
		}
		res.Header[name] = values
	}
	if x.body != nil && !x.body.ended.Load() && x.in.ProtoMajor == 1 {
		// The upstream answers before it has the whole body, or while it reads it.
		// net/http would hold the answer back, see leaveBody.
		res.Header.Set("Connection", "close")
	}
	x.status = res.StatusCode
	return nil
}

// failed answers in place of an upstream that did not.
func (x *exchange) failed(_ http.ResponseWriter, out *http.Request, err error) {
	x.took.upstream = time.Since(x.asked)
	var reason string
	switch {
	case x.body != nil && x.body.exceeded.Load():
		err, reason = errBodyTooLarge, releasedBody
	case errors.Is(context.Cause(out.Context()), errUpstreamTimeout):
		err, reason = errUpstreamTimeout, releasedTimeout
	case x.body != nil && x.body.broken.Load():
		err, reason = errBodyBroken, releasedBody
	case x.in.Context().Err() != nil:
		err, reason = errClientGone, releasedClientGone
	default:
		err, reason = &errUpstream{err}, releasedUnreachable
	}
	h := x.w.Header()
	clear(h)
	for name, values := range x.own {
		h[name] = values
	}
	if s := x.settle(reason); s != nil {
		x.tellUsage(h, s, -1)
	}
	x.fail(err)
}

// A requestBody is a request's body on its way to the upstream. After left bytes it
// ends with an error; http.MaxBytesReader would need net/http's own ResponseWriter.
type requestBody struct {
	io.ReadCloser
	left     int64
	exceeded atomic.Bool
	ended    atomic.Bool // well or not
	broken   atomic.Bool // by what the client sent, or its end
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.exceeded.Load() {
		return 0, errBodyTooLarge
	}
	// One byte more than is left tells a body that ends there from a longer one.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended.Store(true)
		var network net.Error // also the cutoff's
		b.broken.Store(err != io.EOF && !errors.As(err, &network))
	}
	if int64(n) > b.left {
		b.exceeded.Store(true)
		return int(b.left), errBodyTooLarge
	}
	b.left -= int64(n)
	return n, err
}
