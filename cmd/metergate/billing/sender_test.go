package billing

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/cmd/metergate/billing/billingtest"
)

var allReceivers = []string{"openmeter", "stripe", "lago", "cloudevents"}

func newSender(t *testing.T, o Options) *Sender {
	t.Helper()
	if o.Source == "" {
		o.Source = "metergate"
	}
	if o.Token == "" {
		o.Token = billingtest.Token
	}
	if o.Rate == 0 {
		o.Rate = 10000
	}
	s, err := New(o)
	if err == nil {
		err = s.CheckAddress()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.CloseIdleConnections)
	s.firstBackoff = 10 * time.Millisecond
	return s
}

func list(bills ...Bill) iter.Seq2[Bill, error] {
	return func(yield func(Bill, error) bool) {
		for _, b := range bills {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// newBills returns bills of n users, each with three hours.
func newBills(n int) (bills []Bill) {
	for u := range n {
		for h := range 3 {
			b := newBill(u)
			b.Hour, b.Requests, b.Units = hour.Add(time.Duration(h)*time.Hour), int64(1+u%7), int64(3+u%5)
			bills = append(bills, b)
		}
	}
	return bills
}

// A notebook keeps what was noted.
type notebook struct {
	mu    sync.Mutex
	noted map[string]bool
	fails atomic.Bool
}

func (n *notebook) Sent(_ context.Context, bills []Bill) error {
	if n.fails.Load() {
		return errors.New("the gateway does not answer")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.noted == nil {
		n.noted = map[string]bool{}
	}
	for _, b := range bills {
		n.noted[b.ID("metergate")] = true
	}
	return nil
}

// rest returns the bills that are not noted.
func (n *notebook) rest(bills []Bill) (rest []Bill) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range bills {
		if !n.noted[b.ID("metergate")] {
			rest = append(rest, b)
		}
	}
	return rest
}

// wantSums compares what a receiver has with the bills.
func wantSums(t *testing.T, r *billingtest.Receiver, to string, bills []Bill) {
	t.Helper()
	want := map[billingtest.Key]billingtest.Amount{}
	for _, b := range bills {
		key := billingtest.Key{Customer: b.User, Code: b.Endpoint, Hour: b.Hour}
		sum := want[key]
		sum.Requests += b.Requests
		if to != "stripe" { // it gets one amount
			sum.Units += b.Units
		}
		want[key] = sum
	}
	if diff := cmp.Diff(want, r.Sums()); diff != "" {
		t.Errorf("%s: %s", to, diff)
	}
}

// All is sent and noted once.
func TestSend(t *testing.T) {
	for _, to := range allReceivers {
		r, notes, bills := billingtest.Start(t, to), &notebook{}, newBills(100)
		shown := int64(0)
		report := newSender(t, Options{To: to, URL: r.URL}).Send(t.Context(), list(bills...), notes, func(r Report) { shown = r.Events })
		if !report.Complete() || report.Events != 300 || report.Users != 100 || shown != 300 || len(notes.rest(bills)) > 0 {
			t.Errorf("%s: %+v, %d shown, %d not noted", to, report, shown, len(notes.rest(bills)))
		}
		wantSums(t, r, to, bills)
		if stats := r.Stats(); stats.Repeated > 0 || stats.Faults > 0 || to != "stripe" && stats.Requests > 10 {
			t.Errorf("%s: %+v", to, stats)
		}
	}
}

// Whatever a receiver does, runs that follow each other bring it to exactly the sums.
func TestSendToReceiverWithFaults(t *testing.T) {
	for _, to := range allReceivers {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			r, notes, bills := billingtest.Start(t, to), &notebook{}, newBills(30)
			r.Fault = func() billingtest.Fault {
				if rand.IntN(3) > 0 {
					return billingtest.None
				}
				return 1 + rand.N(billingtest.Stalls)
			}
			for run := 1; ; run++ {
				s := newSender(t, Options{To: to, URL: r.URL, Retry: 10 * time.Second})
				s.client.Timeout = time.Second // for the stalls
				notes.fails.Store(run == 1)
				report := s.Send(t.Context(), list(notes.rest(bills)...), notes, nil)
				if report.Complete() {
					break
				}
				t.Logf("run %d: %+v", run, report)
				if run == 100 {
					t.Fatal("it does not get done")
				}
			}
			wantSums(t, r, to, bills)
			if rest := notes.rest(bills); len(rest) > 0 {
				t.Errorf("%d bills are not noted", len(rest))
			}
			t.Logf("%+v", r.Stats())
		})
	}
}

// An event that is refused holds up no other one, and is named.
func TestRefusedEventHoldsUpNoOther(t *testing.T) {
	for _, to := range allReceivers {
		r, notes, bills := billingtest.Start(t, to), &notebook{}, newBills(100)
		r.Refuses = func(e billingtest.Event) bool {
			return e.Customer == "u-7" && e.Hour.Equal(hour) || e.Customer == "u-8"
		}
		report := newSender(t, Options{To: to, URL: r.URL}).Send(t.Context(), list(bills...), notes, nil)
		if report.Refused != 4 || report.Events != 296 || report.Stopped != nil || report.Unsent != 0 {
			t.Errorf("%s: %+v", to, report)
		}
		rest := notes.rest(bills)
		if len(rest) != 4 || rest[0].User != "u-7" || !rest[0].Hour.Equal(hour) || rest[3].User != "u-8" {
			t.Errorf("%s: not noted: %v", to, rest)
		}
		if faults := strings.Join(report.Faults, "\n"); !strings.Contains(faults, `user "u-7": 1 event of analyze, 2026-11-29T14:00Z: 4`) || !strings.Contains(faults, `user "u-8": 3 events of analyze, 2026-11-29T14:00Z to 2026-11-29T16:00Z: 4`) || len(report.Faults) != 2 {
			t.Errorf("%s: %s", to, faults)
		}
		// Once the receiver takes them, the next run brings them.
		r.Refuses = nil
		if report := newSender(t, Options{To: to, URL: r.URL}).Send(t.Context(), list(rest...), notes, nil); !report.Complete() || report.Events != 4 {
			t.Errorf("%s: %+v", to, report)
		}
		wantSums(t, r, to, bills)
	}
}

// An event at which a receiver fails each time is named, and the others are delivered.
func TestEventThatBreaksTheReceiver(t *testing.T) {
	for _, to := range []string{"openmeter", "lago"} {
		r, notes, bills := billingtest.Start(t, to), &notebook{}, newBills(3)
		var broken atomic.Bool
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body := new(strings.Builder)
			copyBody(body, req)
			if strings.Contains(body.String(), `"u-1"`) && strings.Contains(body.String(), bills[4].ID("metergate")) {
				broken.Store(true)
				w.WriteHeader(500)
				return
			}
			r.ServeHTTP(w, withBody(req, body.String()))
		}))
		defer front.Close()
		report := newSender(t, Options{To: to, URL: front.URL}).Send(t.Context(), list(bills...), notes, nil)
		if report.Refused != 1 || report.Events != 8 || !broken.Load() || len(report.Faults) != 1 || !strings.HasSuffix(report.Faults[0], ": 500 Internal Server Error") {
			t.Errorf("%s: %+v", to, report)
		}
		wantSums(t, r, to, append(bills[:4:4], bills[5:]...))
	}
}

// A receiver that takes nothing ends the run, and what is missing is counted.
func TestRunEndsIfNothingIsTaken(t *testing.T) {
	answer := func(status int, fields ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, f := range fields {
				name, value, _ := strings.Cut(f, ": ")
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":{"message":"no, thank\nyou"}}`)
		}
	}
	for _, c := range []struct {
		name string
		http.HandlerFunc
		retry time.Duration
		want  string
	}{
		{"wrong token", answer(401), time.Minute, `TO answers 401 Unauthorized: no, thank you`},
		{"wrong address", answer(404), time.Minute, `TO answers 404 Not Found: no, thank you`},
		{"redirect", answer(308, "Location: https://elsewhere.example/"), time.Minute, `308 Permanent Redirect: no, thank you: it redirects to "https://elsewhere.example/", which is not followed`},
		{"down", answer(503), 0, `TO has taken nothing for [0-9]+s: 503 Service Unavailable: no, thank you`},
		{"busy for long", answer(429, "Retry-After: 3600"), time.Minute, `TO wants to be left alone for 1h0m0s, after [0-9]+s of trying: 429 Too Many Requests: no, thank you`},
		{"broken", answer(500), 0, `TO has taken nothing for [0-9]+s: 500 Internal Server Error: no, thank you`},
		{"refuses all", answer(400), time.Minute, `TO takes nothing of the endpoint analyze: 400 Bad Request: no, thank you`},
		{"drops connections", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, `TO has taken nothing for [0-9]+s: Post`},
	} {
		for _, to := range allReceivers {
			server := httptest.NewUnstartedServer(c)
			server.Config.ErrorLog = nil
			server.Start()
			notes, bills := &notebook{}, newBills(120)
			report := newSender(t, Options{To: to, URL: server.URL, Retry: c.retry}).Send(t.Context(), list(bills...), notes, nil)
			server.Close()
			want := strings.Replace(c.want, "TO", to, 1)
			if report.Stopped == nil || !regexp.MustCompile(want).MatchString(report.Stopped.Error()) || report.Events > 0 || report.Unsent+report.Refused != 360 || report.Refused > 0 && c.name != "refuses all" || len(notes.rest(bills)) != 360 {
				t.Errorf("%s, %s: %+v; want %s", c.name, to, report, want)
			}
		}
	}
}

// After a 429, an event is not sent again before Retry-After has passed.
func TestRetryAfterIsHonoured(t *testing.T) {
	var mu sync.Mutex
	var times []time.Time
	r := billingtest.Start(t, "stripe")
	r.RetryAfter = 1
	r.Fault = func() billingtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if times = append(times, time.Now()); len(times) == 1 {
			return billingtest.Busy
		}
		return billingtest.None
	}
	if report := newSender(t, Options{To: "stripe", URL: r.URL, Retry: time.Minute}).Send(t.Context(), list(newBill(1)), &notebook{}, nil); !report.Complete() {
		t.Errorf("%+v", report)
	}
	if len(times) != 2 || times[1].Sub(times[0]) < time.Second {
		t.Errorf("requests at %v", times)
	}
}

// A pause holds for the requests of all workers.
func TestPauseHoldsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := newPace(1000), time.Now()
		p.pause(time.Minute)
		p.pause(time.Second) // does not shorten it
		var waiting sync.WaitGroup
		for range workers {
			waiting.Go(func() {
				if err := p.next(t.Context()); err != nil || time.Since(began) < time.Minute {
					t.Errorf("error %v after %v", err, time.Since(began))
				}
			})
		}
		waiting.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		p.pause(time.Minute)
		cancel(errors.New("ended"))
		if err := p.next(ctx); err == nil || err.Error() != "ended" {
			t.Error(err)
		}
	})
}

// Requests stay below the rate.
func TestRateIsKept(t *testing.T) {
	r := billingtest.Start(t, "stripe")
	began, bills := time.Now(), newBills(10)
	if report := newSender(t, Options{To: "stripe", URL: r.URL, Rate: 50}).Send(t.Context(), list(bills...), &notebook{}, nil); !report.Complete() {
		t.Errorf("%+v", report)
	}
	if took := time.Since(began); took < 29*time.Second/50 {
		t.Errorf("30 requests at 50 a second took %v", took)
	}
}

// What the gateway did not note is told, and the run ends: it would send everything in vain.
func TestRunEndsIfNothingIsNoted(t *testing.T) {
	r, notes, bills := billingtest.Start(t, "openmeter"), &notebook{}, newBills(10)
	notes.fails.Store(true)
	report := newSender(t, Options{To: "openmeter", URL: r.URL}).Send(t.Context(), list(bills...), notes, nil)
	if report.Unnoted != 30 || report.Stopped == nil || report.Stopped.Error() != "noting what was delivered: the gateway does not answer" {
		t.Errorf("%+v", report)
	}
	wantSums(t, r, "openmeter", bills)
}

// A list that breaks off ends the run after what was read is sent.
func TestListThatBreaksOff(t *testing.T) {
	r, notes, bills := billingtest.Start(t, "lago"), &notebook{}, newBills(10)
	report := newSender(t, Options{To: "lago", URL: r.URL}).Send(t.Context(), func(yield func(Bill, error) bool) {
		for _, b := range bills {
			if !yield(b, nil) {
				return
			}
		}
		yield(Bill{}, errors.New("broke off"))
	}, notes, nil)
	if report.Stopped == nil || report.Stopped.Error() != "broke off" || report.Events != 30 || len(notes.rest(bills)) > 0 {
		t.Errorf("%+v", report)
	}
}

// A run that is ended notes what it has delivered.
func TestEndedRunNotesDeliveries(t *testing.T) {
	r, notes, bills := billingtest.Start(t, "stripe"), &notebook{}, newBills(300)
	ctx, cancel := context.WithCancelCause(t.Context())
	report := newSender(t, Options{To: "stripe", URL: r.URL}).Send(ctx, list(bills...), notes, func(r Report) {
		if r.Events == 200 {
			cancel(errors.New("a signal"))
		}
	})
	if report.Stopped == nil || report.Stopped.Error() != "a signal" || report.Events < 200 || int(report.Events) != 900-len(notes.rest(bills)) {
		t.Errorf("%+v, %d not noted", report, len(notes.rest(bills)))
	}
}

// What is not billed is noted and not sent. What has no customer is neither.
func TestUnbilledBills(t *testing.T) {
	r, notes := billingtest.Start(t, "stripe"), &notebook{}
	paid, free, stranger, unpaid, nothing := newBill(1), newBill(2), newBill(3), newBill(1), newBill(1)
	unpaid.Endpoint, nothing.Endpoint, nothing.Requests = "report", "image", 0
	bills := []Bill{paid, unpaid, nothing, free, stranger}
	s := newSender(t, Options{To: "stripe", URL: r.URL, Customers: map[string]string{"u-1": "cus_1", "u-2": NotBilled}, Codes: map[string]string{"report": NotBilled, "*": "calls"}})
	report := s.Send(t.Context(), list(bills...), notes, nil)
	if report.Events != 1 || report.NotBilled != 3 || report.Refused != 1 || report.Users != 3 || report.Faults[0] != `user "u-3": 1 event of analyze, 2026-11-29T14:00Z: there is no customer for "u-3"` {
		t.Errorf("%+v", report)
	}
	if rest := notes.rest(bills); len(rest) != 1 || rest[0] != stranger {
		t.Errorf("not noted: %v", rest)
	}
	want := map[billingtest.Key]billingtest.Amount{{Customer: "cus_1", Code: "calls", Hour: hour}: {Requests: 12}}
	if diff := cmp.Diff(want, r.Sums()); diff != "" {
		t.Error(diff)
	}
}
