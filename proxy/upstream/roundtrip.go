package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
)

// RoundTrip sends a request to one of the targets, and perhaps once more to another
// one: retry.go has the rules. The request is not changed; of its URL, path and query
// count. The path goes behind that of the target's URL, byte for byte as
// URL.EscapedPath has it. The request is in flight until the response's body is
// closed. The response's Request is the one that was answered: it names the target.
//
// Errors: ErrNoTarget, the context's, those of the request's body, and what a target
// did.
func (p *Pool) RoundTrip(req *http.Request) (res *http.Response, err error) {
	x := exchange{p: p, in: req, header: req.Header, repeatable: repeatable(req)}
	if !x.repeatable {
		x.header = hideKeys(req.Header)
	}
	if req.Body != nil && req.Body != http.NoBody {
		x.upload = &upload{rc: req.Body}
		defer func() { x.upload.end(err != nil) }()
	}
	t, trial := p.pick(nil)
	if t == nil {
		return nil, ErrNoTarget
	}
	res, err, again := x.try(t, trial)
	if !again {
		return res, err
	}
	other, trial := p.pick(t)
	if other == nil {
		return nil, err
	}
	res, err, _ = x.try(other, trial)
	return res, err
}

// An exchange is a request and its attempts.
type exchange struct {
	p          *Pool
	in         *http.Request
	header     http.Header // of in, without what would have it repeated
	upload     *upload     // nil: no body
	repeatable bool
}

// try sends the request to a target. again: it failed, and may go to another one.
func (x *exchange) try(t *target, trial bool) (res *http.Response, err error, again bool) {
	p, a := x.p, new(attempt)
	ctx := x.in.Context()
	if !x.repeatable && p.mayHTTP2 {
		ctx, a.cancel = context.WithCancelCause(ctx)
		a.WroteHeaders = a.wroteHeaders
	}
	a.GetConn = a.getConn
	a.GotConn = a.gotConn
	a.GotFirstResponseByte = func() { a.stage.Store(stageResponded) }
	out := x.in.WithContext(httptrace.WithClientTrace(ctx, &a.ClientTrace))
	out.URL, out.Header, out.GetBody = t.at(x.in.URL), x.header, nil
	if !p.options.KeepHost {
		out.Host = p.options.Host
	}
	if x.upload != nil {
		out.Body, _ = x.upload.take() // it is untouched, or there were no attempt
		out.GetBody = x.upload.take
	}

	t.inFlight.Add(1)
	end := func() {
		if a.cancel != nil {
			a.cancel(nil)
		}
		p.done(t)
	}
	res, err = p.transport.RoundTrip(out)
	if err == nil {
		how := good
		if res.StatusCode >= 500 {
			how = serverError
		}
		p.judge(t, trial, how)
		body := &download{ReadCloser: res.Body, end: end}
		if w, ok := res.Body.(io.Writer); ok {
			res.Body = tunnel{body, w}
		} else {
			res.Body = body
		}
		return res, nil, false
	}

	stage := a.stage.Load()
	switch {
	case stage == stageDial && x.in.Context().Err() != nil && context.Cause(x.in.Context()) != context.Canceled:
		// Its time was up, and it had not even connected. A client that goes is nobody's
		// fault.
		p.judge(t, trial, broken)
	case x.in.Context().Err() != nil, x.upload != nil && x.upload.hasFailed():
		p.judge(t, trial, nothing)
	case ctx.Err() != nil: // by attempt.stopped
		p.judge(t, trial, nothing)
		err = errSentAlready
	case stage == stageNew: // a field that cannot be sent
		p.judge(t, trial, nothing)
	default:
		p.judge(t, trial, broken)
		again = stage == stageDial || stage == stageSent && x.repeatable
	}
	if again && x.upload != nil {
		_, touched := x.upload.take()
		again = touched == nil
	}
	end()
	return nil, err, again
}

// at is the URL of a path and query at the target.
func (t *target) at(u *url.URL) *url.URL {
	out := &url.URL{
		Scheme: t.url.Scheme, Host: t.url.Host,
		Path: u.Path, RawPath: u.RawPath,
		RawQuery: u.RawQuery, ForceQuery: u.ForceQuery,
	}
	if t.raw != "" {
		out.Path = t.prefix + u.Path
		// Package url takes RawPath as it is when it decodes to Path.
		out.RawPath = t.raw + u.EscapedPath()
	}
	return out
}
