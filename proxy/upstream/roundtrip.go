package upstream

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"

	"metergate/proxy/tracing"
)

// RoundTrip sends a request to one of the targets, and perhaps retries it on another:
// retry.go has the rules. The request is not changed. Of its URL only path and query are
// used; the path is appended to that of the target's URL, byte for byte as
// URL.EscapedPath returns it. The request is in flight until the response's body is
// closed. The response's Request is the one that the target answered, so its URL names the
// target; of h2c and unix, it is the target's.
//
// The error is ErrNoTarget, or a *TargetError that wraps ErrNoConnection, the context's, one of reading the request's body, one of the
// connection to the target, or says that the response is malformed.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	return p.RoundTripFor(req.WithContext(req.Context()), "", nil)
}

// RoundTripFor is RoundTrip for a user, whom the balance ByUser needs; empty: there is none. It makes a span
// for each try, which ends with the response's body. The targets get the try as the parent of theirs. span is the
// request's; nil: nothing is traced.
//
// The request may lose its Header once it was sent, so that the Header does not stay in memory until the response.
func (p *Pool) RoundTripFor(req *http.Request, user string, span *tracing.Span) (res *http.Response, err error) {
	key := p.keyOf(user)
	rt := roundTrip{pool: p, original: req, header: req.Header, repeatable: isRepeatable(req), span: span}
	if !rt.repeatable {
		rt.header = hideIdempotencyKeys(req.Header)
	}
	if req.Body != nil && req.Body != http.NoBody {
		rt.upload = &upload{body: req.Body, ctx: req.Context()}
		defer func() { rt.upload.finish(err != nil) }()
	}
	t, trial := p.pickTarget(nil, key)
	if t == nil {
		return nil, ErrNoTarget
	}
	res, err, retry := rt.send(t, trial)
	if !retry {
		return res, t.failed(err)
	}
	other, trial := p.pickTarget(t, key)
	if other == nil {
		return nil, t.failed(err)
	}
	res, err, _ = rt.send(other, trial)
	return res, other.failed(err)
}

// A TargetError says which target did not answer. Its text is that of the error it wraps.
type TargetError struct {
	URL *url.URL // of the target
	err error
}

func (e *TargetError) Error() string { return e.err.Error() }
func (e *TargetError) Unwrap() error { return e.err }

// failed adds the target to an error; nil: there was none.
func (t *target) failed(err error) error {
	if err == nil {
		return nil
	}
	return &TargetError{t.url, err}
}

// A roundTrip is a request and what its attempts share.
type roundTrip struct {
	pool       *Pool
	original   *http.Request
	header     http.Header // the original's, without the keys that make net/http retry
	upload     *upload     // nil: no body
	repeatable bool
	span       *tracing.Span // of the request; nil: nothing is traced
	tries      int64         // so far
}

// send sends the request to a target. If retry is true, it failed and may be retried on
// another target.
func (rt *roundTrip) send(t *target, trial bool) (res *http.Response, err error, retry bool) {
	ctx := rt.original.Context()
	p, a := rt.pool, &attempt{upload: rt.upload}
	if !rt.repeatable && p.mayUseHTTP2 {
		ctx, a.cancel = context.WithCancelCause(ctx)
		a.WroteHeaders = a.wroteHeaders
	}
	a.GetConn = a.getConn
	a.GotConn = a.gotConn
	a.GotFirstResponseByte = func() { a.stage.Store(stageResponded) }
	out := rt.original.WithContext(httptrace.WithClientTrace(ctx, &a.ClientTrace))
	out.URL, out.Header, out.GetBody = t.urlOf(rt.original.URL), rt.header, nil
	if rt.span != nil {
		rt.startTry(a, t, out)
	}
	if !p.options.KeepHost {
		out.Host = p.options.Host
	}
	if out.Host == "" {
		out.Host = t.hostHeader
	}
	if rt.upload != nil {
		out.Body, _ = rt.upload.claim() // no error: this attempt is made only if the body is unread
		out.GetBody = rt.upload.claim
		a.notifier = waitNotifier(rt.original)
	}

	c := p.cohortForRequest()
	c.inFlight.Add(1)
	end := func() {
		if a.cancel != nil {
			a.cancel(nil)
		}
		a.span.End()
		c.requestEnded()
		p.requestEnded(t)
	}
	res, err = c.roundTrip(t, out, func() { rt.freeHeader(out) })
	if err == nil {
		res, err = rt.accept(t, trial, a, res, end)
		return res, err, false
	}
	if a.span != nil {
		describeFailure(a.span, rt.original.Context(), err)
	}

	stage := a.stage.Load()
	switch {
	case context.Cause(ctx) == errSentAlready: // by attempt.stopIfSent
		p.recordOutcome(t, trial, outcomeUnknown)
		err = errSentAlready
	case stage == stageSent && rt.upload.wasCut():
		p.recordOutcome(t, trial, outcomeConnectionError)
		err, retry = ErrUploadCut, rt.repeatable
	case stage == stageDial && rt.original.Context().Err() != nil && context.Cause(rt.original.Context()) != context.Canceled:
		// It timed out without even connecting. If the client had gone away instead, that
		// would not be the target's fault.
		p.recordOutcome(t, trial, outcomeConnectionError)
	case rt.original.Context().Err() != nil, rt.upload != nil && rt.upload.readFailed():
		p.recordOutcome(t, trial, outcomeUnknown)
	case errors.Is(err, ErrNoConnection): // nor would there be one to another target
		p.recordOutcome(t, trial, outcomeUnknown)
	case stage == stageNew: // a header that cannot be sent
		p.recordOutcome(t, trial, outcomeUnknown)
	case stage == stageResponded && a.http1 && !isConnectionError(err): // a malformed response
		p.recordOutcome(t, trial, outcomeServerError)
	default:
		p.recordOutcome(t, trial, outcomeConnectionError)
		retry = stage == stageDial || stage == stageSent && rt.repeatable
	}
	if retry && rt.upload != nil {
		_, err := rt.upload.claim()
		retry = err == nil
	}
	end()
	return nil, err, retry
}

// freeHeader lets the header of an attempt that was sent go, unless the request may be sent again.
func (rt *roundTrip) freeHeader(out *http.Request) {
	if !rt.repeatable {
		out.Header, rt.header, rt.original.Header = nil, nil, nil
	}
}

// accept records that the target has answered, and checks the response. Package direct
// has called restoreHead itself. The request ends, which is end, with the response's body.
func (rt *roundTrip) accept(t *target, trial bool, a *attempt, res *http.Response, end func()) (*http.Response, error) {
	conn := a.conn
	err := checkResponse(res, a.http1)
	if conn != nil {
		if head := conn.endRecord(); err == nil {
			err = restoreHead(res, head)
		}
	}
	if a.span != nil {
		describeAnswer(a.span, res, err)
	}
	if err != nil {
		res.Body.Close()
		rt.pool.recordOutcome(t, trial, outcomeServerError)
		end()
		return nil, err
	}
	if t.scheme != t.url.Scheme {
		named := *res.Request
		named.URL = t.url
		res.Request = &named
	}
	how := outcomeResponse
	if res.StatusCode >= 500 {
		how = outcomeServerError
	}
	rt.pool.recordOutcome(t, trial, how)
	body := &responseBody{ReadCloser: res.Body, onClose: end}
	if w, ok := res.Body.(io.Writer); ok {
		if conn != nil {
			conn.releaseWrites()
		}
		res.Body = upgradedBody{body, w}
	} else {
		res.Body = body
	}
	return res, nil
}

// urlOf returns the URL at the target for a request's path and query.
func (t *target) urlOf(u *url.URL) *url.URL {
	out := &url.URL{
		Scheme: t.scheme, Host: cmp.Or(t.socketHost, t.url.Host),
		Path: u.Path, RawPath: u.RawPath,
		RawQuery: u.RawQuery, ForceQuery: u.ForceQuery,
	}
	if t.escapedPrefix != "" {
		out.Path = t.prefix + u.Path
		// Package url uses RawPath unchanged if it decodes to Path.
		out.RawPath = t.escapedPrefix + u.EscapedPath()
	}
	return out
}

// startTry starts the span of an attempt, and has its request name it as the parent.
func (rt *roundTrip) startTry(a *attempt, t *target, out *http.Request) {
	a.span, out.Header = rt.span.StartTry(out.Header)
	if s := a.span; s != nil {
		s.Text("http.request.method", out.Method)
		host, address := out.URL.Host, out.URL.Hostname()
		if t.url.Scheme == schemeUnix {
			host, address = t.hostHeader, t.url.Path
		}
		s.Text("url.full", out.URL.Scheme+"://"+host+out.URL.EscapedPath()) // the query may have a token
		s.Text("server.address", address)
		switch port, err := strconv.ParseInt(out.URL.Port(), 10, 32); {
		case t.url.Scheme == schemeUnix: // a socket has no port
		case err == nil:
			s.Number("server.port", port)
		case out.URL.Scheme == schemeHTTPS:
			s.Number("server.port", 443)
		default:
			s.Number("server.port", 80)
		}
		if rt.tries > 0 {
			s.Number("http.request.resend_count", rt.tries)
		}
	}
	rt.tries++
}

// describeAnswer describes the response to an attempt, by the semantic conventions of OpenTelemetry for HTTP
// clients: for these, 4xx is a failure as well.
func describeAnswer(s *tracing.Span, res *http.Response, malformed error) {
	s.Number("http.response.status_code", int64(res.StatusCode))
	s.Text("network.protocol.version", strings.TrimSuffix(strings.TrimPrefix(res.Proto, "HTTP/"), ".0"))
	switch {
	case malformed != nil:
		s.Fail("malformed", malformed.Error())
	case res.StatusCode >= 400:
		s.Fail(strconv.Itoa(res.StatusCode), "")
	}
}

// describeFailure says why an attempt got no response.
func describeFailure(s *tracing.Span, ctx context.Context, err error) {
	if cause := context.Cause(ctx); cause != nil { // the time was up, or nobody waits for the response
		s.Fail("canceled", cause.Error())
		return
	}
	s.Fail("connection", err.Error())
}
