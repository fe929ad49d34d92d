package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"metergate/proxy/reported"
)

// A request whose cost is reported in the body of its response is settled in two steps:
//
//  1. Before the client sees the status line, the request and the least that it can cost are
//     counted (Commit). The rest stays held.
//  2. Before the client has the end of the body, the rest is settled (CommitRest).
//
// The body passes through as it arrives, and a reported.Reader looks on.
//
// Until the first step, the request to the upstream ends when the client goes. After it, the gateway
// reads on to learn the cost: for as long as the route's Timeout, and up to its MaxBody. The request
// keeps its places meanwhile. If the end does not come by then, the cost is missing.

var (
	errNoBody     = errors.New("the response has no body")
	errBodyBroken = errors.New("the body broke off")
	errClientLeft = errors.New("the client left before the response began")
	errReadOnTime = errors.New("the client left, and the body did not end within the timeout")
	errReadOnSize = errors.New("the client left, and the rest of the body is longer than max_body")
	errReadOnStop = errors.New("the client left, and the gateway stopped before the body ended")
)

// A costReading is what a forwarding knows about a cost that the response's body reports.
type costReading struct {
	ctx            context.Context // of the request to the upstream
	cancel         context.CancelCauseFunc
	unfollowClient func() bool // ends what happens when the client goes; false: it has gone
	costBody       *costBody   // nil: the body reports no cost
	trailsCost     bool        // the final cost follows in a trailer
}

// A costBody is the body of a response that reports what its request cost.
type costBody struct {
	io.ReadCloser
	f      *forwarding
	reader *reported.Reader
	left   int64 // until the end, by Content-Length; negative without one
	ended  bool
}

// readCost has the cost read from the body of a successful response. It returns an error if the body
// cannot report it.
func (f *forwarding) readCost(res *http.Response) error {
	if !mayHaveBody(f.in.Method, res.StatusCode) || res.StatusCode == http.StatusResetContent || res.ContentLength == 0 {
		return errNoBody
	}
	reader, err := reported.NewReader(f.route.Cost.Path, strings.Join(res.Header["Content-Type"], ","), strings.Join(res.Header["Content-Encoding"], ","), f.route.MaxBody)
	if err != nil {
		return err
	}
	f.unfollowClient() // if it is too late, perhaps the whole body has arrived all the same
	f.unfollowClient = context.AfterFunc(f.in.Context(), f.limitReadOn)
	f.costBody = &costBody{res.Body, f, reader, res.ContentLength, false}
	res.Body = f.costBody
	return nil
}

// followClient lets the request to the upstream end with the client's, until the first step.
func (f *forwarding) followClient() {
	f.unfollowClient = context.AfterFunc(f.in.Context(), func() { f.cancel(context.Cause(f.in.Context())) })
}

// limitReadOn bounds how long the gateway reads on. It begins when the client goes, and returns when
// the response has ended.
func (f *forwarding) limitReadOn() {
	timeout := time.NewTimer(f.route.Timeout)
	defer timeout.Stop()
	select {
	case <-f.ctx.Done():
	case <-timeout.C:
		f.cancel(errReadOnTime)
	case <-f.g.inFlight.stopping:
		f.cancel(errReadOnStop)
	}
}

// endCost ends what may still run if the response was not read to its end: the gateway has panicked.
func (f *forwarding) endCost() {
	f.unfollowClient()
	if f.costBody != nil {
		f.costBody.reader.End()
	}
}

// Read settles the rest when it has read the last byte, before it returns it.
func (b *costBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.ended {
		return n, err
	}
	b.reader.Write(p[:n])
	b.left -= int64(n)
	switch {
	case err == io.EOF || b.left == 0:
		b.end(nil)
	case err != nil:
		b.end(b.explain(err))
	}
	return n, err
}

// Close reads on if the client did not take the whole body.
func (b *costBody) Close() error {
	if !b.ended {
		b.readOn()
	}
	return b.ReadCloser.Close()
}

func (b *costBody) readOn() {
	if b.f.unfollowClient() { // it stopped reading, or left just now
		go b.f.limitReadOn()
	}
	buffer := buffers.Get()
	defer buffers.Put(buffer)
	for left := b.f.route.MaxBody; !b.ended; {
		n, _ := b.Read(buffer)
		if left -= int64(n); left < 0 && !b.ended {
			b.end(errReadOnSize)
		}
	}
}

// end settles the rest. err says why the end of the body was not seen; nil: it was.
func (b *costBody) end(err error) {
	b.ended = true
	amount, unknown := b.reader.End()
	if err == nil {
		err = unknown
	}
	x := b.f.exchange
	x.reservation.RestCharged = x.price(amount, err) - x.route.Cost.Min
	x.commitRest()
}

// explain says why a read failed.
func (b *costBody) explain(err error) error {
	switch cause := context.Cause(b.f.ctx); cause {
	case errReadOnTime, errReadOnStop:
		return cause
	case context.Canceled: // by followClient
		return errClientLeft
	}
	return fmt.Errorf("%w: %w", errBodyBroken, err)
}

// announceCost makes room for a trailer with the final cost, if the client takes trailers (RFC 9110
// section 6.5.1). With HTTP/1 only a chunked body can have any.
func (f *forwarding) announceCost(h http.Header) {
	if !f.restHeld || !f.in.ProtoAtLeast(1, 1) || !takesTrailers(f.in.Header["Te"]) {
		return
	}
	f.trailsCost = true
	h["Trailer"] = []string{headerCost}
	if f.in.ProtoMajor == 1 {
		delete(h, "Content-Length")
	}
}

// takesTrailers reports whether the values of a TE header list trailers (RFC 9110 section 10.1.4).
func takesTrailers(te []string) bool {
	for _, list := range te {
		for coding := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(coding), "trailers") {
				return true
			}
		}
	}
	return false
}
