package proxy

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"metergate/proxy/credential"
	"metergate/quota"
)

var (
	errUnexpectedBody = errors.New("the request has a body")
	// errUserChanged: after a reload the configuration finds another user or organisation in the
	// token.
	errUserChanged = errors.New("the token names another user or organisation since the reload")
)

// Why the gateway ends a stream, as its client reads it.
const (
	endExpired  = "token_expired"
	endShutdown = "shutting_down"
	endReload   = "reload" // the token is no longer good: the configuration changed, or its key was withdrawn
)

// answerStream answers GET /usage/stream with server-sent events: the user's usage at
// once, and again whenever it changes.
func (x *exchange) answerStream() {
	streams, account := x.g.streams, x.account
	if x.in.ContentLength != 0 {
		// net/http notices that a client is gone only once its body has been read.
		x.fail(errUnexpectedBody)
		return
	}
	if err := streams.add(account); err != nil {
		x.fail(err)
		return
	}
	defer streams.remove(account)
	// watchUsage and gateway come before the first read, so that no change is missed.
	changed, sharedChanged := make(chan struct{}, 1), make(chan struct{}, 1)
	defer x.watchUsage(changed, sharedChanged)()
	g, replaced := streams.gateway()
	if err := x.followGateway(g); err != nil {
		x.fail(err)
		return
	}
	s, err := x.g.store.Read(x.in.Context(), account, x.plans)
	if err != nil {
		x.fail(&storeError{err})
		return
	}
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would buffer the events
	setSecurityHeaders(h)
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses would buffer them
	x.record.status = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	if x.in.Method == http.MethodHead {
		return
	}
	e := eventWriter{w: x.w, control: http.NewResponseController(x.w)}
	e.write("retry: 1000\n\n")
	x.writeUsage(&e, &s)

	now := time.Now()
	schedule := streamSchedule{expires: x.user.Expires, pacedAt: now, readAt: now.Add(rereadAfter(&s, rand.Float64()))}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for e.err == nil {
		timer.Reset(time.Until(schedule.wakeAt(e.written)))
		select {
		case <-x.in.Context().Done():
			return
		case <-streams.ended:
			e.writeEnd(endShutdown)
			return
		case <-replaced:
			if g, replaced = streams.gateway(); x.followGateway(g) != nil {
				e.writeEnd(endReload)
				return
			}
			schedule.expires, schedule.readAt = x.user.Expires, time.Now()
		case <-changed:
			schedule.noteChange(time.Now())
		case <-sharedChanged:
			schedule.noteSharedChange(e.written, time.Now())
		case <-timer.C:
		}
		now := time.Now()
		switch schedule.next(now) {
		case stepExpire:
			e.writeEnd(endExpired)
			return
		case stepRead:
			if x.tokenIsRefused() {
				e.writeEnd(endReload)
				return
			}
			schedule.noteRead(now, x.sendUsage(&e))
		}
		if schedule.needsComment(e.written, time.Now()) {
			e.write(":\n\n")
		}
	}
}

// sendUsage reads the user's usage and sends it if it has changed. It returns when to
// read again if nothing is announced.
func (x *exchange) sendUsage(e *eventWriter) time.Time {
	s, err := x.g.store.Read(x.in.Context(), x.account, x.plans)
	if err == nil { // otherwise nothing is known any more, and the client keeps what it has
		x.writeUsage(e, &s)
	}
	return time.Now().Add(rereadAfter(&s, rand.Float64()))
}

// writeUsage sends the usage object, unless nothing but its time and its forecast would be new.
func (x *exchange) writeUsage(e *eventWriter, s *quota.Snapshot) {
	u := x.usageObject(s)
	asOf := u.AsOf
	u.AsOf = time.Time{}
	if same := marshal(u); !bytes.Equal(same, e.last) {
		e.last = same
		u.AsOf, u.ExhaustsAt = asOf, x.forecast(s)
		e.write("event: usage\ndata: " + string(marshal(u)) + "\n\n")
	}
}

// tokenIsRefused reports whether the token has become bad: its issuer may have withdrawn
// the key. A token that cannot be checked at the moment is not refused.
func (x *exchange) tokenIsRefused() bool {
	_, err := x.g.identify(x.in, x.route)
	var bad *credential.Error
	return errors.As(err, &bad)
}

// followGateway makes the exchange go on with the plans and keys of g. It does nothing if
// g is nil or the exchange's own. It returns an error if the token is not good there, and
// errUserChanged if it names another user or organisation there.
func (x *exchange) followGateway(g *Gateway) error {
	if g == nil || g == x.g {
		return nil
	}
	user, err := g.identify(x.in, x.route)
	if err != nil {
		return err
	}
	if user.User != x.user.User || user.Org != x.user.Org {
		return errUserChanged
	}
	x.g = g
	x.setUser(user)
	return nil
}

// An eventWriter writes server-sent events. After an error it writes nothing more.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
	written time.Time // when something was last written
	last    []byte    // the usage object that was last sent, without its time and its forecast
}

func (e *eventWriter) write(text string) {
	if e.err != nil {
		return
	}
	// If a client does not read, this waits until the deadline of the write. Meanwhile
	// nothing queues up: the next read has the newest state.
	if _, e.err = e.w.Write([]byte(text)); e.err == nil {
		e.err = e.control.Flush()
	}
	e.written = time.Now()
}

// writeEnd says why nothing will follow.
func (e *eventWriter) writeEnd(reason string) {
	e.write(`event: end` + "\n" + `data: {"reason":"` + reason + `"}` + "\n\n")
}
