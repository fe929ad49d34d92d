// Package billingtest has a server that behaves as OpenMeter, Stripe, Lago or a service for CloudEvents does, by
// their documents and sources, and that fails on demand.
package billingtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Token is what every request must bring.
const Token = "the-token-of-the-receiver"

// A Fault is what a Receiver does wrong.
type Fault int

// The faults. With those that come after the events are stored, the client must send them again, and the
// Receiver must recognise them.
const (
	None       Fault = iota
	Busy             // 429
	Fails            // 500, nothing is stored
	FailsLate        // 500, though all is stored
	Closes           // the connection is closed, nothing is stored
	ClosesLate       // the connection is closed, though all is stored
	Stalls           // no answer until the client gives up, though all is stored
)

// A Key says what an amount is of.
type Key struct {
	Customer, Code string
	Hour           time.Time
}

// An Amount is what was billed.
type Amount struct{ Requests, Units int64 }

// An Event is one that a Receiver has taken.
type Event struct {
	Key
	Amount
}

// A Receiver takes events. Set its fields before the first request.
type Receiver struct {
	URL string
	// Fault chooses what goes wrong with a request; nil: nothing.
	Fault func() Fault
	// Refuses reports whether the receiver refuses an event for ever; nil: none.
	Refuses func(Event) bool
	// RetryAfter is the header Retry-After of a 429, in seconds. With 0, it has no such header.
	RetryAfter int

	t      testing.TB
	to     string
	stop   chan struct{}
	mu     sync.Mutex
	events map[string]Event
	stats  Stats
	active map[string]bool // customers and meters with a request under way, of Stripe
}

// Stats are what a Receiver has seen.
type Stats struct {
	Requests int
	Events   int // in all requests
	Repeated int // of these, that were there already
	Faults   int
}

// Start starts a receiver of a kind, until the test ends.
func Start(t testing.TB, to string) *Receiver {
	t.Helper()
	r := &Receiver{t: t, to: to, stop: make(chan struct{}), events: map[string]Event{}, active: map[string]bool{}}
	server := httptest.NewServer(r)
	r.URL = server.URL
	t.Cleanup(func() {
		close(r.stop)
		server.Close()
	})
	return r
}

// Heal ends all faults.
func (r *Receiver) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Fault = nil
}

// Events returns all events that were taken, by their ids.
func (r *Receiver) Events() map[string]Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := map[string]Event{}
	for id, e := range r.events {
		events[id] = e
	}
	return events
}

// Sums adds up the events that were taken.
func (r *Receiver) Sums() map[Key]Amount {
	sums := map[Key]Amount{}
	for _, e := range r.Events() {
		sum := sums[e.Key]
		sums[e.Key] = Amount{sum.Requests + e.Requests, sum.Units + e.Units}
	}
	return sums
}

// Stats returns what was seen.
func (r *Receiver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the client was killed
	}
	if req.Header.Get("Authorization") != "Bearer "+Token {
		http.Error(w, `{"error":"no token"}`, http.StatusUnauthorized)
		return
	}
	fault := None
	r.mu.Lock()
	if r.Fault != nil {
		fault = r.Fault()
	}
	r.stats.Requests++
	if fault != None {
		r.stats.Faults++
	}
	r.mu.Unlock()
	switch fault {
	case Busy:
		if r.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(r.RetryAfter))
		}
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	case Fails:
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	case Closes:
		panic(http.ErrAbortHandler)
	}
	status, answer := r.take(req, body)
	switch fault {
	case FailsLate:
		http.Error(w, "broken", http.StatusInternalServerError)
	case ClosesLate:
		panic(http.ErrAbortHandler)
	case Stalls:
		select {
		case <-req.Context().Done():
		case <-r.stop:
		}
	default:
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}
}

// take stores the events of a request, and returns the answer.
func (r *Receiver) take(req *http.Request, body []byte) (status int, answer string) {
	switch r.to {
	case "stripe":
		return r.takeMeterEvent(req, body)
	case "lago":
		return r.takeLago(req, body)
	}
	return r.takeCloudEvents(req, body)
}

// add stores an event, and reports whether it was new. An id stands for one event for ever.
func (r *Receiver) add(id string, e Event) bool {
	before, known := r.events[id]
	if known && before != e {
		r.t.Errorf("the event %s was %+v and is %+v", id, before, e)
	}
	r.events[id] = e
	return !known
}

// count counts an event of a request. The lock is held.
func (r *Receiver) count(id string) {
	r.stats.Events++
	if _, known := r.events[id]; known {
		r.stats.Repeated++
	}
}

type usage struct {
	User, Org, Endpoint       string
	Requests, Units, Revision int64
}

// takeCloudEvents refuses a batch with an event that it will not take: as OpenMeter, it may have stored those
// before it.
func (r *Receiver) takeCloudEvents(req *http.Request, body []byte) (int, string) {
	var batch []struct {
		SpecVersion, ID, Source, Type, Subject, DataContentType string
		Time                                                    time.Time
		Data                                                    usage
	}
	if err := json.Unmarshal(body, &batch); err != nil || req.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
		return http.StatusBadRequest, fmt.Sprintf(`{"title":"invalid event","detail":%q}`, fmt.Sprint(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range batch {
		id := e.Source + " " + e.ID
		event := Event{Key{e.Subject, e.Data.Endpoint, e.Time}, Amount{e.Data.Requests, e.Data.Units}}
		if r.count(id); r.Refuses != nil && r.Refuses(event) {
			return http.StatusBadRequest, `{"detail":"an event is not to my taste"}`
		}
		if !r.add(id, event) && len(batch) == 1 && r.to == "cloudevents" {
			return http.StatusConflict, ""
		}
	}
	return http.StatusNoContent, ""
}

// takeMeterEvent takes one event, and one at a time for a customer and meter.
func (r *Receiver) takeMeterEvent(req *http.Request, body []byte) (int, string) {
	req.Body = io.NopCloser(bytes.NewReader(body))
	if err := req.ParseForm(); err != nil {
		return http.StatusBadRequest, err.Error()
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(req.PostForm.Get(name), 10, 64)
		if err != nil || n <= 0 {
			r.t.Errorf("%s: %v", name, err)
		}
		return n
	}
	customer, code, id := req.PostForm.Get("payload[stripe_customer_id]"), req.PostForm.Get("event_name"), req.PostForm.Get("identifier")
	event := Event{Key{customer, code, time.Unix(number("timestamp"), 0).UTC()}, Amount{Requests: number("payload[value]")}}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[customer+" "+code] {
		return http.StatusTooManyRequests, `{"error":{"message":"one concurrent call per customer per meter"}}`
	}
	r.active[customer+" "+code] = true
	defer delete(r.active, customer+" "+code)
	r.count(id)
	switch {
	case customer == "" || code == "" || id == "":
		return http.StatusBadRequest, `{"error":{"type":"invalid_request_error","message":"Missing required param."}}`
	case r.Refuses != nil && r.Refuses(event):
		return http.StatusBadRequest, `{"error":{"type":"invalid_request_error","message":"an event is not to my taste"}}`
	case !r.add(id, event):
		return http.StatusBadRequest, `{"error":{"type":"invalid_request_error","message":"An event already exists with identifier ` + id + `."}}`
	}
	return http.StatusOK, `{"object":"billing.meter_event"}`
}

// takeLago takes a batch or nothing of it. It finds events that are there already only in a batch that is
// right otherwise.
func (r *Receiver) takeLago(_ *http.Request, body []byte) (int, string) {
	var batch struct {
		Events []struct {
			TransactionID string `json:"transaction_id"`
			Subscription  string `json:"external_subscription_id"`
			Code          string
			Timestamp     int64
			Properties    usage
		}
	}
	if err := json.Unmarshal(body, &batch); err != nil || len(batch.Events) == 0 {
		return http.StatusBadRequest, `{"status":400,"error":"BadRequest"}`
	}
	if len(batch.Events) > 100 {
		return http.StatusUnprocessableEntity, `{"status":422,"error":"Unprocessable Entity","code":"validation_errors","error_details":{"events":["too_many_events"]}}`
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, known := map[string]any{}, map[string]any{}
	events := map[string]Event{}
	for i, e := range batch.Events {
		id := e.Subscription + " " + e.TransactionID
		events[id] = Event{Key{e.Subscription, e.Code, time.Unix(e.Timestamp, 0).UTC()}, Amount{e.Properties.Requests, e.Properties.Units}}
		r.count(id)
		if _, stored := r.events[id]; stored {
			known[strconv.Itoa(i)] = map[string][]string{"transaction_id": {"value_already_exist"}}
		}
		if r.Refuses != nil && r.Refuses(events[id]) {
			refused[strconv.Itoa(i)] = map[string][]string{"code": {"not_to_my_taste"}}
		}
	}
	if len(refused) == 0 {
		refused = known
	}
	if len(refused) > 0 {
		text, _ := json.Marshal(map[string]any{"status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": refused})
		return http.StatusUnprocessableEntity, string(text)
	}
	for id, e := range events {
		r.add(id, e)
	}
	return http.StatusOK, `{"events":[]}`
}
