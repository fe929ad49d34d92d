package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"metergate/quota"
)

// A request waits if its plan has a ConcurrencyLimit with a Wait, and only other running requests
// of the user keep it out: they have all places, or hold the last units of a limit. It wakes when
// the store announces a change of the user's numbers. Those who wait for the same thing on this
// gateway have their turn in order of arrival, whatever plan the token of a new one claims.

// retryEvery is when the first in line tries again if nothing is announced: when the lease of a
// gateway that died has run out, nobody announces it.
const retryEvery = 5 * time.Second

// maxReadAhead is the longest body that is read while its request waits, in bytes: with HTTP/1,
// net/http only notices that a client is gone once the body has been read.
const maxReadAhead = 64 << 10

// reserveInTurn asks the store, and waits if the plan says so. Besides the store's errors it
// returns errClientGone and errBodyIncomplete.
func (x *exchange) reserveInTurn(r *quota.Request) (*quota.Decision, error) {
	line, wait := x.lineOfOthers(r)
	if line == "" {
		d, err := x.g.store.Reserve(x.in.Context(), *r)
		if line = x.lineFor(d, err); line == "" {
			return d, err
		}
		wait = d.Snapshot.Plan.ConcurrencyLimit().Wait
		askAgain(r)
	}
	defer stopwatch(&x.record.waited)()
	ahead := x.readAhead()
	d, err := x.waitInLine(line, wait, r, ahead)
	if err == nil && d.Admitted && x.in.Context().Err() != nil {
		x.reservation, x.reserved, x.running = d.Reservation, true, true
		x.release(releasedClientGone)
		err = errClientGone
	}
	if err != nil || !d.Admitted {
		ahead.stop()
	}
	x.g.metrics.recordWait(d, err)
	return d, err
}

// askAgain prepares r for another try. It gets another ID: if the store did not answer the last
// one, package guard still has to release that.
func askAgain(r *quota.Request) { r.Waited, r.ID = true, quota.NewID() }

// The names of the lines of an account: for a place, and for what is held of an endpoint's limits.
// Members of an organisation wait for what is held of a shared limit in one line, that of the pool.
func placeLine(account string) string          { return account + "\n" }
func heldLine(account, endpoint string) string { return account + "\n" + endpoint }

// lineOfOthers returns the line that a new request joins at once, because others of the user wait in
// it already, and how long it may wait; an empty line: none. Only if there are others, it asks the
// store which plan applies, and joins no line to be refused at its end.
func (x *exchange) lineOfOthers(r *quota.Request) (line string, wait time.Duration) {
	lines := &x.g.inFlight.lines
	if lines.Waiting() == 0 {
		return "", 0
	}
	candidates := [...]string{placeLine(r.User), heldLine(r.User, r.Endpoint), heldLine(poolOf(r.User), r.Endpoint)}
	i := slices.IndexFunc(candidates[:], lines.Has)
	if i < 0 {
		return "", 0
	}
	p := x.plans.Claimed
	if s, err := x.g.store.Read(x.in.Context(), r.User, r.Plans); err == nil {
		p = s.Plan
		if refusal := s.Refusal(r.Endpoint, r.HeldUnits()); refusal.Violated != nil && !refusal.OnlyHeld {
			return "", 0
		}
	}
	if wait = p.ConcurrencyLimit().Wait; wait == 0 || r.InObserveMode(p) {
		return "", 0
	}
	return candidates[i], wait
}

// lineFor returns the line that a request joins after a decision; empty: it does not wait.
func (x *exchange) lineFor(d *quota.Decision, err error) string {
	if err != nil || d.Admitted || d.AttemptWait > 0 || d.Snapshot.Plan.ConcurrencyLimit().Wait == 0 {
		return ""
	}
	r := &d.Reservation
	if d.NoPlace {
		return placeLine(r.User)
	}
	switch refusal := d.Snapshot.Refusal(r.Endpoint, r.HeldUnits()); {
	case !refusal.OnlyHeld:
		return ""
	case d.Snapshot.Plan.Limits()[refusal.Binding].Shared:
		return heldLine(poolOf(r.User), r.Endpoint)
	}
	return heldLine(r.User, r.Endpoint)
}

// poolOf returns the account of the pool in which an account is counted as well: that of its
// organisation, or its own if it has none.
func poolOf(account string) string {
	if org, _ := quota.SplitAccount(account); org != "" {
		return quota.PoolAccount(org)
	}
	return account
}

// waitInLine waits in a line until the request is admitted, refused for another reason, or has
// waited for so long.
func (x *exchange) waitInLine(line string, wait time.Duration, r *quota.Request, ahead *bodyAhead) (*quota.Decision, error) {
	x.g.metrics.waiting.Inc()
	defer x.g.metrics.waiting.Dec()
	turn := x.g.inFlight.lines.Join(line)
	defer func() { turn.Leave() }()
	changed := make(chan struct{}, 1)
	defer x.watchUsage(changed, changed)()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()

	first, woken := turn.First(), (<-chan struct{})(nil)
	for last := false; ; {
		select {
		case <-x.in.Context().Done():
			return &quota.Decision{}, errClientGone
		case <-ahead.failed():
			return &quota.Decision{}, ahead.fault()
		case <-first:
			first, woken = nil, changed
		case <-woken:
		case <-retry.C:
			if first != nil {
				continue
			}
		case <-timer.C:
			last = true
		}
		d, err := x.g.store.Reserve(x.in.Context(), *r)
		next := x.lineFor(d, err)
		if last || next == "" {
			return d, err
		}
		if next != line { // what keeps it out has changed, and must not hold up this line
			turn.Leave()
			line, turn = next, x.g.inFlight.lines.Join(next)
			first, woken = turn.First(), nil
		}
		askAgain(r)
	}
}

// leavePlace gives back the place of the request, when its response has ended.
func (x *exchange) leavePlace() {
	if x.running {
		x.running = false
		x.g.store.Leave(&x.reservation)
	}
}

// A bodyAhead is a request body whose beginning is read while its request waits: up to maxReadAhead
// bytes, and one more that tells a longer body. A small body is thereby read to its end. nil stands for
// a body that is not read ahead.
type bodyAhead struct {
	body   io.ReadCloser // of net/http
	w      http.ResponseWriter
	done   chan struct{} // closed when no more is read ahead
	broken chan struct{} // closed when reading ahead has failed

	mu    sync.Mutex
	ended bool   // as done
	data  []byte // that was read ahead and not taken by Read
	err   error  // with which reading ahead has ended; nil: it has not, or the body is longer
	more  sync.Cond
}

// readAhead begins to read the request's body, unless it is known to be long, or its client has to be
// told to send it (RFC 9110 section 10.1.1). With HTTP/2, net/http notices without that when a client
// is gone.
func (x *exchange) readAhead() *bodyAhead {
	n := x.in.ContentLength
	if x.in.ProtoMajor != 1 || n == 0 || n > maxReadAhead || x.in.Header["Expect"] != nil {
		return nil
	}
	b := &bodyAhead{body: x.in.Body, w: x.w.ResponseWriter, done: make(chan struct{}), broken: make(chan struct{})}
	b.more.L = &b.mu
	x.in.Body = b
	go b.fill()
	return b
}

// fill reads ahead.
func (b *bodyAhead) fill() {
	defer close(b.done)
	var chunk [4 << 10]byte
	for left := maxReadAhead + 1; left > 0; {
		n, err := b.body.Read(chunk[:min(len(chunk), left)])
		left -= n
		b.mu.Lock()
		b.data, b.err, b.ended = append(b.data, chunk[:n]...), err, err != nil || left == 0
		b.mu.Unlock()
		b.more.Signal()
		if err != nil && err != io.EOF {
			close(b.broken)
		}
		if err != nil {
			return
		}
	}
}

// failed is closed if the body has ended with an error, which fault explains. b may be nil.
func (b *bodyAhead) failed() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.broken
}

// fault says why the body has failed: the client is gone, or has sent malformed chunks.
func (b *bodyAhead) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var network net.Error
	if errors.Is(b.err, io.ErrUnexpectedEOF) || errors.As(b.err, &network) {
		return errClientGone
	}
	return errBodyIncomplete
}

// isWhole reports whether the body has been read to its end.
func (b *bodyAhead) isWhole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == io.EOF
}

// stop ends the read. If the body has not been read by then, the connection can carry no further
// request.
func (b *bodyAhead) stop() {
	if b == nil {
		return
	}
	select {
	case <-b.done:
	default:
		http.NewResponseController(b.w).SetReadDeadline(time.Now())
		<-b.done
	}
}

// endReadAhead ends a read of the body that is still under way when the response has ended.
func (x *exchange) endReadAhead() {
	if b, ok := x.in.Body.(*bodyAhead); ok {
		b.stop()
	}
}

// Read returns what was read ahead as soon as there is some of it, and then the rest of the body.
func (b *bodyAhead) Read(p []byte) (int, error) {
	b.mu.Lock()
	for len(b.data) == 0 && !b.ended {
		b.more.Wait()
	}
	n, err := copy(p, b.data), b.err
	b.data = b.data[n:]
	b.mu.Unlock()
	switch {
	case n > 0 || len(p) == 0:
		return n, nil
	case err != nil:
		return 0, err
	}
	return b.body.Read(p)
}

// Close closes the body of net/http.
func (b *bodyAhead) Close() error { return b.body.Close() }
