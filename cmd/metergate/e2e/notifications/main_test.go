// Package notifications proves that whole gateways tell a receiver once when a user reaches a threshold:
// however many gateways there are, and whatever is down in the meantime.
package notifications

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }

const (
	secret    = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	newSecret = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3"
)

// patience bounds the wait for events. A gateway that was killed may have claimed them for 20 s, and what the receiver
// has refused several times waits as long.
const patience = 2 * time.Minute

// An event is what a receiver gets.
type event struct {
	ID   string `json:"-"`
	Type string `json:"type"`
	Data struct {
		User      *string `json:"user"`
		Org       *string `json:"org"`
		Plan      string  `json:"plan"`
		Limit     string  `json:"limit"`
		Unit      string  `json:"unit"`
		Used      int64   `json:"used"`
		Amount    int64   `json:"limit_amount"`
		Percent   int64   `json:"percent"`
		Threshold int64   `json:"threshold"`
		ResetsAt  *string `json:"resets_at"`
	} `json:"data"`
}

// String names the event by what there must be one of, and how much was used.
func (e event) String() string {
	who := "null"
	if e.Data.User != nil {
		who = *e.Data.User
	}
	if e.Data.Org != nil {
		who += " of " + *e.Data.Org
	}
	return fmt.Sprintf("%s: %s at %d%%, %d of %d %s", who, e.Data.Limit, e.Data.Threshold, e.Data.Used, e.Data.Amount, e.Data.Unit)
}

// A receiver is a webhook that verifies what it gets with the library.
type receiver struct {
	*httptest.Server
	fails   atomic.Bool // it answers 503, and forgets the event
	closes  atomic.Bool // it closes the connection after it has noted the event
	anyBody atomic.Bool // an event may come again with another body

	mu     sync.Mutex
	secret string
	events []event
	bodies map[string]string // by the id
	tries  int
	faults []string
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{secret: secret, bodies: map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	verifier, err := standardwebhooks.NewWebhook(r.secret)
	if err == nil {
		err = verifier.Verify(body, req.Header)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	if r.fails.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	e := event{ID: req.Header.Get("webhook-id")}
	if err := json.Unmarshal(body, &e); err != nil {
		r.faults = append(r.faults, err.Error())
	}
	if before, again := r.bodies[e.ID]; !again {
		r.events = append(r.events, e)
		r.bodies[e.ID] = string(body)
	} else if before != string(body) && !r.anyBody.Load() {
		r.faults = append(r.faults, e.ID+" has two bodies")
	}
	if r.closes.Load() {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusNoContent)
}

// setSecret changes what the receiver verifies with.
func (r *receiver) setSecret(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = s
}

// requests is how many requests have come, accepted or not.
func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

// got returns the events as texts, sorted. An event that came again is there once.
func (r *receiver) got() (texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		texts = append(texts, e.String())
	}
	slices.Sort(texts)
	return texts
}

// mustGet waits until as many events have come, and compares them.
func (r *receiver) mustGet(t *testing.T, want ...string) {
	t.Helper()
	testkit.EventuallyWithin(t, patience, fmt.Sprintf("there are %d events", len(want)), func() bool { return len(r.got()) >= len(want) })
	slices.Sort(want)
	if got := r.got(); !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fault := range r.faults {
		t.Error(fault)
	}
}

// plans are those of the gateways here.
const plans = `
plans:
  free: { limits: [{ requests: 100, per: month }] }
  ten: { limits: [{ requests: 10, per: ever }] }
  soft: { limits: [{ requests: 10, per: month, endpoint: image-analysis }, { requests: 5, per: month, mode: observe }] }
  team: { limits: [], shared: [{ requests: 10, per: month }] }
  units: { limits: [{ units: 100, per: ever }] }
`

// configuration returns a configuration with the receiver.
func configuration(notify string) string {
	text, rest, _ := strings.Cut(gatewaytest.BasicYAML, "plans:\n")
	_, rest, _ = strings.Cut(rest, "upstreams:\n")
	text = strings.Replace(text, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+gatewaytest.AdminToken+`" }`, 1)
	text = strings.Replace(text, "algorithms: [HS256] }", "algorithms: [HS256], claims: { org: org } }", 1)
	rest = strings.Replace(rest, "endpoint: image-analysis,", "endpoint: image-analysis, cost: 5,", 1)
	return text + plans + "unit_name: credits\nupstreams:\n" + rest + notify
}

// notifyAt is the key notify.
func notifyAt(url, secret, at string) string {
	return fmt.Sprintf("notify: { url: %q, secret: %q, at: %s }\n", url, secret, at)
}

// start runs a gateway with a configuration of this package, on an upstream that answers 200.
func start(t *testing.T, store, text string, env ...string) *gatewaytest.Reloadable {
	t.Helper()
	upstream := gatewaytest.StartUpstream(t, "ok")
	file := t.TempDir() + "/gateway.yaml"
	testkit.WriteFile(t, file, text)
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream.URL, "JOURNAL=" + t.TempDir(), "LEVEL=info", gatewaytest.Patient}, env...)
	return gatewaytest.StartFile(t, env, file)
}

// call sends so many requests at once to the gateways in turn, all of which must pass.
func call(t *testing.T, n int, path, token string, gateways ...*gatewaytest.Reloadable) {
	t.Helper()
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			if status := gatewaytest.Post(http.DefaultClient, gateways[i%len(gateways)].URL+path, token); status != 200 {
				t.Errorf("%s: status %d", path, status)
			}
		})
	}
	wait.Wait()
}

// waiting is what the gateway says about how many accounts wait.
func waiting(g *gatewaytest.Reloadable) string {
	return gatewaytest.Metric(g.Process, "metergate_notifications_waiting")
}

// mustBeSettled waits until nothing waits, by the numbers of a gateway.
func mustBeSettled(t *testing.T, g *gatewaytest.Reloadable) {
	t.Helper()
	testkit.EventuallyWithin(t, patience, "no notification waits", func() bool { return waiting(g) == "0" })
}
