package proxy

import (
	"errors"
	"sync"
)

const (
	// maxStreams limits the open usage streams of a gateway, maxUserStreams those of one
	// user on it. The browser client shares one stream between all tabs of a browser.
	maxStreams     = 20_000
	maxUserStreams = 16

	// retryStreams is the Retry-After of a stream that was refused, in seconds.
	retryStreams = "10"
)

var (
	errUserStreams = errors.New("the user has too many usage streams open")
	errStreams     = errors.New("the gateway has too many usage streams open")
)

// Streams are the open usage streams. They are shared by the Gateways that follow one
// another in a process. The zero value is not usable, see NewStreams.
type Streams struct {
	mu    sync.Mutex
	users map[string]int
	open  int
	ended chan struct{} // closed by End
	end   func()
	// current is the Gateway that serves from now on, nil until Follow. replaced is closed
	// when another one takes over.
	current  *Gateway
	replaced chan struct{}
}

// NewStreams returns a set with no stream open.
func NewStreams() *Streams {
	s := &Streams{users: map[string]int{}, ended: make(chan struct{}), replaced: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	return s
}

// End tells the clients of all streams that the gateway shuts down, and ends the streams.
// It does not wait, and may be called more than once.
func (s *Streams) End() { s.end() }

// Follow makes all streams go on with the plans and keys of g, after a reload.
func (s *Streams) Follow(g *Gateway) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = g
	close(s.replaced)
	s.replaced = make(chan struct{})
}

// gateway returns the Gateway to follow, or nil if a stream stays with its own, and a
// channel that is closed when another one takes over.
func (s *Streams) gateway() (current *Gateway, replaced <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.replaced
}

// add counts a stream. Errors: errUserStreams, errStreams.
func (s *Streams) add(user string) error {
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

func (s *Streams) remove(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}

// Open returns the number of open streams.
func (s *Streams) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}
