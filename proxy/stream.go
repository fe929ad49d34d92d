package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"metergate/proxy/jwtauth"
	"metergate/quota"
)

const (
	// maxStreams bounds the streams of a gateway, maxUserStreams those of one user on
	// it. The browser client shares one between all tabs of a browser.
	maxStreams     = 20_000
	maxUserStreams = 16

	rereadEvery    = 10 * time.Second // announcements of the store can be lost
	heartbeatEvery = 15 * time.Second
	// windowJitter spreads the reads of all streams when a minute ends.
	windowJitter = 250 * time.Millisecond
	// A stream reads once in readGap, over time; readBurst times it may do so before.
	// What changes meanwhile is in the next.
	readGap   = 50 * time.Millisecond
	readBurst = 4
	// retryStreams is what a client is told to wait that has too many, in seconds.
	retryStreams = "10"
)

var (
	errUserStreams = errors.New("the user has too many streams open")
	errStreams     = errors.New("the gateway has too many streams open")
	errBody        = errors.New("the request has a body")
)

// Why a stream is ended by the gateway.
const (
	endExpired  = "token_expired"
	endShutdown = "shutting_down"
	endReload   = "reload" // the token is not good any more: another configuration, or its key was withdrawn
)

// Streams are the open streams of usage. They are shared by the Gateways that
// follow one another in a process. The zero value is not usable, see NewStreams.
type Streams struct {
	mu    sync.Mutex
	users map[string]int
	open  int
	ended chan struct{}
	end   func()
	// next is the Gateway that serves from now on, nil until Follow; moved is closed
	// when another one does.
	next  *Gateway
	moved chan struct{}
}

// NewStreams returns a set of streams with none open.
func NewStreams() *Streams {
	s := &Streams{users: map[string]int{}, ended: make(chan struct{}), moved: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	return s
}

// End tells the clients of all streams that the gateway shuts down, and ends them.
func (s *Streams) End() { s.end() }

// Follow has all streams go on by the plans and keys of g.
func (s *Streams) Follow(g *Gateway) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = g
	close(s.moved)
	s.moved = make(chan struct{})
}

// gateway returns the one to go by, nil for the stream's own, and what is closed
// when there is another.
func (s *Streams) gateway() (g *Gateway, moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next, s.moved
}

// enter counts a stream. Errors: errUserStreams, errStreams.
func (s *Streams) enter(user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.users[user] >= maxUserStreams:
		return errUserStreams
	case s.open >= maxStreams:
		return errStreams
	}
	s.users[user]++
	s.open++
	return nil
}

func (s *Streams) leave(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}

// Open is the number of streams.
func (s *Streams) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// stream answers GET /usage/stream: the user's usage, and again whenever it changes,
// as server-sent events.
func (x *exchange) stream() {
	streams, user := x.g.streams, x.user.User
	if x.in.ContentLength != 0 {
		// net/http notices that a client is gone only once its body has been read.
		x.fail(errBody)
		return
	}
	if err := streams.enter(user); err != nil {
		x.fail(err)
		return
	}
	defer streams.leave(user)
	changes := make(chan struct{}, 1)
	// Both before the first read, so that no change falls in between.
	defer x.g.store.Watch(user, changes)()
	g, moved := streams.gateway()
	if err := x.follow(g); err != nil {
		x.fail(err)
		return
	}
	s, err := x.g.store.Read(x.in.Context(), user, x.terms)
	if err != nil {
		x.fail(&errStore{err})
		return
	}
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would collect them
	secure(h)
	x.status = http.StatusOK
	x.w.WriteHeader(x.status)
	if x.in.Method == http.MethodHead {
		return
	}
	e := events{w: x.w, control: http.NewResponseController(x.w)}
	e.text("retry: 1000\n\n")
	e.usage(x.usageObject(s))

	timer := time.NewTimer(0)
	defer timer.Stop()
	paced := time.Now() // when the reads so far would be done, one every readGap
	for due := nextRead(s); e.err == nil; {
		wake := e.written.Add(heartbeatEvery)
		for _, t := range [...]time.Time{due, x.user.Expires} {
			if t.Before(wake) {
				wake = t
			}
		}
		timer.Reset(time.Until(wake))
		select {
		case <-x.in.Context().Done():
			return
		case <-streams.ended:
			e.end(endShutdown)
			return
		case <-moved:
			if g, moved = streams.gateway(); x.follow(g) != nil {
				e.end(endReload)
				return
			}
			due = time.Now()
		case <-changes:
			due = time.Now()
		case <-timer.C:
		}
		now := time.Now()
		switch {
		case !now.Before(x.user.Expires):
			e.end(endExpired)
			return
		case now.Before(due):
		case now.Before(paced.Add(-readBurst * readGap)):
			due = paced.Add(-readBurst * readGap)
		case x.refused():
			e.end(endReload)
			return
		default:
			// An error says that nothing is known any more. What the client has stays.
			if s, err = x.g.store.Read(x.in.Context(), user, x.terms); err == nil {
				e.usage(x.usageObject(s))
			}
			if due = nextRead(s); paced.Before(now) {
				paced = now
			}
			paced = paced.Add(readGap)
		}
		if time.Since(e.written) >= heartbeatEvery {
			e.text(":\n\n")
		}
	}
}

// refused reports whether the token is bad by now: its issuer may have withdrawn the
// key. That it cannot be judged at the moment is no reason to end.
func (x *exchange) refused() bool {
	_, err := x.g.verifier.Verify(x.in)
	var bad *jwtauth.Error
	return errors.As(err, &bad)
}

// follow has the exchange go on by the plans and keys of g, unless that is nil or its
// own. The error says that the token is not good there, or is somebody else's.
func (x *exchange) follow(g *Gateway) error {
	if g == nil || g == x.g {
		return nil
	}
	user, err := g.verifier.Verify(x.in)
	if err != nil {
		return err
	}
	if user.User != x.user.User {
		return errNoRoute
	}
	x.g, x.user, x.terms = g, user, g.termsOf(user)
	x.plan = x.terms.Claimed
	return nil
}

// nextRead is when to read again after s if nothing is announced: when the first of
// its windows ends, or after a while, which is not the same for all streams.
func nextRead(s quota.Snapshot) time.Time {
	wait := rereadEvery - rand.N(rereadEvery/10)
	for _, c := range append([]quota.Count{s.Total}, s.Limits...) {
		if left := c.Window.End.Sub(s.At); left > 0 && left < wait {
			wait = left + rand.N(windowJitter)
		}
	}
	return time.Now().Add(wait)
}

// events writes server-sent events. After an error it writes no more.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
	written time.Time // when something was written last
	last    []byte    // the object as it was sent last, without its time
}

func (e *events) text(s string) {
	if e.err != nil {
		return
	}
	// Of a client that does not read, the newest state waits here, and no backlog,
	// until the writer's time is up.
	if _, e.err = e.w.Write([]byte(s)); e.err == nil {
		e.err = e.control.Flush()
	}
	e.written = time.Now()
}

// usage sends the object unless it is as before.
func (e *events) usage(u usageObject) {
	full := marshal(u)
	u.AsOf = time.Time{}
	if same := marshal(u); !bytes.Equal(same, e.last) {
		e.last = same
		e.text("event: usage\ndata: " + string(full) + "\n\n")
	}
}

// end says why nothing will follow.
func (e *events) end(reason string) {
	e.text(`event: end` + "\n" + `data: {"reason":"` + reason + `"}` + "\n\n")
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("proxy: " + err.Error()) // our own types always marshal
	}
	return b
}
