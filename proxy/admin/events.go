package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// MaxEventStreams bounds the open streams of GET /admin/events, of all who watch a gateway.
	MaxEventStreams = 32
	// eventsEvery is how often a stream looks whether anything has changed.
	eventsEvery = 2 * time.Second
	// eventsAlive is the longest time in which a stream writes nothing: proxies and clients give up on
	// connections that are silent.
	eventsAlive = 15 * time.Second
	// eventsEndGrace bounds how long EventStreams.End waits.
	eventsEndGrace = time.Second
)

// EventStreams are the open streams of GET /admin/events. The zero value has none open. The methods may be
// called concurrently.
type EventStreams struct {
	mu    sync.Mutex
	open  int
	ended chan struct{} // closed by End; nil: no stream was opened, and End was not called
	over  bool
	all   sync.WaitGroup
}

// add counts a stream, and returns a channel that is closed when it should end. ok is false if there are
// too many, or no more are to come.
func (s *EventStreams) add() (ended <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.open == MaxEventStreams {
		return nil, false
	}
	if s.ended == nil {
		s.ended = make(chan struct{})
	}
	s.open++
	s.all.Add(1)
	return s.ended, true
}

func (s *EventStreams) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.all.Done()
}

// End tells the clients of all streams that the gateway stops, and waits a moment until they have been
// told. No stream can be opened after it.
func (s *EventStreams) End() {
	s.mu.Lock()
	if !s.over && s.ended != nil {
		close(s.ended)
	}
	s.over = true
	s.mu.Unlock()
	told := make(chan struct{})
	go func() {
		defer close(told)
		s.all.Wait()
	}()
	select {
	case <-told:
	case <-time.After(eventsEndGrace):
	}
}

// Why a stream of events ends, for clients.
const (
	endShutdown = "shutting_down"
	endToken    = "token_changed"
)

// getEvents serves GET /admin/events: the overview as server-sent events, whenever it has changed.
func (h *handler) getEvents(w http.ResponseWriter, r *http.Request) {
	ended, ok := h.EventStreams.add()
	if !ok {
		writeProblem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d streams of events are open already, or the gateway stops. Use GET /admin/overview instead.", MaxEventStreams), nil)
		return
	}
	defer h.EventStreams.remove()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store, no-transform") // a proxy that compressed it would hold events back
	w.Header().Set("X-Accel-Buffering", "no")                 // nor may nginx
	if r.Method == http.MethodHead {
		return
	}
	e := eventWriter{w: w, control: http.NewResponseController(w)}
	e.control.SetReadDeadline(time.Time{}) // that of the server is for the request
	role := h.tokens().roleOf(bearerToken(r))
	look := time.NewTicker(eventsEvery)
	defer look.Stop()
	var last []byte
	for {
		data, err := json.Marshal(h.eventOverview(r))
		if err != nil { // the types have no value that cannot be written
			return
		}
		// Before each event: whoever lost the token meanwhile must not read on.
		if h.tokens().roleOf(bearerToken(r)) != role {
			e.end(endToken)
			return
		}
		switch {
		case !bytes.Equal(data, last):
			err, last = e.send("event: overview\ndata: %s\n\n", data), data
		case time.Since(e.wrote) >= eventsAlive-eventsEvery:
			err = e.send(": alive\n\n")
		}
		if err != nil {
			return
		}
		select {
		case <-look.C:
		case <-ended:
			e.end(endShutdown)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// eventOverview is what an event has.
func (h *handler) eventOverview(r *http.Request) Overview {
	o := h.overview(r)
	if p, ok := h.Recent.Newest(); ok {
		o.Point = &p
	}
	return o
}

// An eventWriter writes server-sent events to a client, which has writeTimeout to take each.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	wrote   time.Time // the last time
}

func (e *eventWriter) send(format string, args ...any) error {
	e.wrote = time.Now()
	e.control.SetWriteDeadline(e.wrote.Add(writeTimeout))
	if _, err := fmt.Fprintf(e.w, format, args...); err != nil {
		return err
	}
	return e.control.Flush()
}

// end tells the client why there is no more.
func (e *eventWriter) end(reason string) { e.send("event: end\ndata: {\"reason\":%q}\n\n", reason) }
