package gatewaytest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// A Workload is an upstream and the requests that go to it, of all kinds and for several
// users. It records what clients and the upstream saw. The counts of a gateway must lie
// between the two.
type Workload struct {
	*httptest.Server // the upstream
	Accounts         []*Account
	Pick             func(*rand.Rand) int // chooses the account of the next request; nil: any
	Paths            []string             // of the requests
	Answered         atomic.Int64         // requests that clients got a response for

	waiting sync.Map // requests that clients wait for, by number: *workRequest
}

// An Account is a user of a [Workload] and what is known about their requests.
type Account struct {
	User, Plan string
	Limit      int64 // requests a month; 0: so many that they never reach it
	Units      int64 // units a month; 0: likewise
	Crowded    bool  // few of the requests may run at once
	Fails      bool  // none of the requests succeeds

	Requests    atomic.Int64 // sent by clients
	Seen        atomic.Int64 // 2xx that clients saw
	Sent        atomic.Int64 // 2xx that the upstream sent
	Told        atomic.Int64 // units that the 2xx say that they were charged
	Reported    atomic.Int64 // units that the upstream's 2xx cost
	Refused     atomic.Int64 // 429
	Unavailable atomic.Int64 // the gateway's own 503
	Running     atomic.Int64 // requests that clients wait for
}

// Requests to CostPath cost what the upstream reports in X-Cost, and MaxCost if it reports no
// number. Other requests cost 1 unit.
const (
	CostPath = "/api/report"
	MaxCost  = 5
)

// A workRequest is one request of a Workload.
type workRequest struct {
	reached atomic.Bool  // the upstream
	status  atomic.Int64 // that the upstream sent
}

// NewWorkload starts an upstream that does what the query of a request says, and notes
// the status before it sends it.
func NewWorkload(t testing.TB, accounts ...*Account) *Workload {
	l := &Workload{Accounts: accounts, Paths: []string{"/api/analyze", "/api/image-analysis"}}
	l.Server = httptest.NewServer(http.HandlerFunc(l.serveUpstream))
	t.Cleanup(l.Close)
	return l
}

func (l *Workload) serveUpstream(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	q := r.URL.Query()
	request := &workRequest{} // no client waits for it any more
	if known, ok := l.waiting.Load(q.Get("n")); ok {
		request = known.(*workRequest)
	}
	request.reached.Store(true)
	if delay, _ := time.ParseDuration(q.Get("delay")); delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
		}
	}
	status, _ := strconv.Atoi(q.Get("status"))
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	cost := int64(1)
	if r.URL.Path == CostPath {
		cost = MaxCost
		if n, err := strconv.ParseInt(q.Get("cost"), 10, 64); err == nil {
			cost = min(MaxCost, max(1, n))
		}
		w.Header()["X-Cost"] = q["cost"]
	}
	if status/100 == 2 {
		if i, err := strconv.Atoi(q.Get("user")); err == nil {
			l.Accounts[i].Sent.Add(1)
			l.Accounts[i].Reported.Add(cost)
		}
	}
	request.status.Store(int64(status))
	w.WriteHeader(status)
	if q.Get("break") != "" && status == 200 {
		w.Write(make([]byte, 10_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Run sends requests of all kinds, one after another, until ctx ends. gateway returns
// the URL of a gateway for each of them.
func (l *Workload) Run(ctx context.Context, t testing.TB, client *http.Client, random *rand.Rand, gateway func(*rand.Rand) string) {
	worker := random.Uint64()
	for i := 0; ctx.Err() == nil; i++ {
		account := random.IntN(len(l.Accounts))
		if l.Pick != nil {
			account = l.Pick(random)
		}
		l.send(ctx, t, client, random, gateway, fmt.Sprintf("%x-%d", worker, i), account)
	}
}

// send sends one request, and records its response.
func (l *Workload) send(ctx context.Context, t testing.TB, client *http.Client, random *rand.Rand, gateway func(*rand.Rand) string, number string, account int) {
	u := l.Accounts[account]
	request := &workRequest{}
	l.waiting.Store(number, request)
	defer l.waiting.Delete(number)
	own, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path := l.randomPath(random, number, account, u.Fails)
	if random.IntN(8) == 0 { // the client hangs up
		time.AfterFunc(time.Duration(random.IntN(25))*time.Millisecond, cancel)
	}
	body := strings.NewReader(strings.Repeat("x", random.IntN(2000)))
	req, err := http.NewRequestWithContext(own, "POST", gateway(random)+path, body)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+testkit.Token(u.User, u.Plan))
	u.Requests.Add(1)
	u.Running.Add(1)
	defer u.Running.Add(-1)
	res, err := client.Do(req)
	if err != nil {
		if own.Err() == nil {
			// The gateway is gone. The client must not spin until it is back.
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return
	}
	l.Answered.Add(1)
	u.record(t, number, request, res)
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
}

// randomPath is a path with a query that tells the upstream what to do.
func (l *Workload) randomPath(random *rand.Rand, number string, account int, fails bool) string {
	statuses := []int{302, 404, 500, 503, 0, 200, 200, 200, 200, 201, 204}
	if fails {
		statuses = statuses[:5]
	}
	status := statuses[random.IntN(len(statuses))]
	delay := time.Duration(random.IntN(20)) * time.Millisecond
	if random.IntN(50) == 0 {
		delay = time.Duration(random.IntN(1000)) * time.Millisecond
	}
	path := l.Paths[random.IntN(len(l.Paths))]
	path += fmt.Sprintf("?n=%s&user=%d&status=%d&delay=%v", number, account, status, delay)
	if random.IntN(10) == 0 {
		path += "&break=1"
	}
	if cost := random.IntN(10); cost > 0 { // else it is not reported
		path += fmt.Sprintf("&cost=%d", cost-1)
	}
	return path
}

// record notes a response, and compares it with what the upstream did.
func (u *Account) record(t testing.TB, number string, request *workRequest, res *http.Response) {
	sent, status := request.status.Load(), res.StatusCode
	switch {
	case status/100 == 2:
		u.Seen.Add(1)
		cost := int64(1) // unless some route has a cost
		if text := res.Header.Get("X-Usage-Cost"); text != "" {
			cost, _ = strconv.ParseInt(text, 10, 64)
		}
		u.Told.Add(cost)
		if sent != int64(status) {
			t.Errorf("request %s: the client saw %d, the upstream sent %d", number, status, sent)
		}
	case status == http.StatusTooManyRequests:
		u.Refused.Add(1)
		if request.reached.Load() {
			t.Errorf("request %s was refused, and forwarded", number)
		}
	case status == http.StatusServiceUnavailable && sent != http.StatusServiceUnavailable:
		u.Unavailable.Add(1)
		if request.reached.Load() {
			t.Errorf("request %s got a 503 from the gateway, and was forwarded", number)
		}
	}
}
