package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
)

// RoundTrip sends a request to one of the targets, and perhaps retries it on another:
// retry.go has the rules. The request is not changed. Of its URL only path and query are
// used; the path is appended to that of the target's URL, byte for byte as
// URL.EscapedPath returns it. The request is in flight until the response's body is
// closed. The response's Request is the one that the target answered, so it names the
// target.
//
// The error is ErrNoTarget, or a *TargetError that wraps ErrNoConnection, the context's, one of reading the request's body, one of the
// connection to the target, or says that the response is malformed.
func (p *Pool) RoundTrip(req *http.Request) (res *http.Response, err error) {
	rt := roundTrip{pool: p, original: req, header: req.Header, repeatable: isRepeatable(req)}
	if !rt.repeatable {
		rt.header = hideIdempotencyKeys(req.Header)
	}
	if req.Body != nil && req.Body != http.NoBody {
		rt.upload = &upload{body: req.Body, ctx: req.Context()}
		defer func() { rt.upload.finish(err != nil) }()
	}
	t, trial := p.pickTarget(nil)
	if t == nil {
		return nil, ErrNoTarget
	}
	res, err, retry := rt.send(t, trial)
	if !retry {
		return res, t.failed(err)
	}
	other, trial := p.pickTarget(t)
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
	if !p.options.KeepHost {
		out.Host = p.options.Host
	}
	if rt.upload != nil {
		out.Body, _ = rt.upload.claim() // no error: this attempt is made only if the body is unread
		out.GetBody = rt.upload.claim
	}

	end := func() {
		if a.cancel != nil {
			a.cancel(nil)
		}
		p.requestEnded(t)
	}
	res, err = p.transport.RoundTrip(out)
	if err == nil {
		res, err = rt.accept(t, trial, a.conn, res, end)
		return res, err, false
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
	case stage == stageResponded && a.conn != nil && !isConnectionError(err): // a malformed response
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

// accept records that the target has answered, and checks the response. conn is nil with
// HTTP/2. The request ends, which is end, with the response's body.
func (rt *roundTrip) accept(t *target, trial bool, conn *targetConn, res *http.Response, end func()) (*http.Response, error) {
	err := checkResponse(res, conn != nil)
	if conn != nil {
		if head := conn.endRecord(); err == nil {
			err = restoreHead(res, head)
		}
	}
	if err != nil {
		res.Body.Close()
		rt.pool.recordOutcome(t, trial, outcomeServerError)
		end()
		return nil, err
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
		Scheme: t.url.Scheme, Host: t.url.Host,
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
