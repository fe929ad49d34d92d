package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy/admin"
	"metergate/proxy/admin/recent"
	"metergate/quota"
	"metergate/quota/boltstore"
)

const (
	token       = "a token of operators"
	viewerToken = "a token of viewers"
)

var noon = time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)

// A testAPI is the admin API on a real store, whose clock stands still until it is advanced.
type testAPI struct {
	*testing.T
	url   string
	store admin.Store
	bolt  *boltstore.Store
	clock atomic.Int64 // ns
	plans map[string]*quota.Plan
}

func newTestAPI(t *testing.T, change ...func(*admin.Options)) *testAPI {
	t.Helper()
	r := &testAPI{T: t, plans: map[string]*quota.Plan{}}
	r.clock.Store(noon.UnixNano())
	now := func() time.Time { return time.Unix(0, r.clock.Load()).UTC() }
	for name, limits := range map[string][]quota.Limit{
		"free": {{Amount: 100, Period: quota.Month}, {Amount: 20, Period: quota.Month, Endpoint: "image-analysis"}},
		"pro":  {{Amount: 5000, Period: quota.Month}, {Amount: 60, Period: quota.Minute}},
		"open": {},
	} {
		p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		r.plans[name] = p
	}
	var err error
	calendar := quota.NewCalendar(nil)
	if r.bolt, err = boltstore.Open(t.TempDir(), boltstore.Options{Calendar: calendar, Now: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.bolt.Close() })
	o := admin.Options{Gateway: &gateway{token: token, plans: r.plans}, Store: r.bolt, Calendar: calendar, Clock: r.bolt, Backups: r.bolt, Upstreams: &upstreams{}}
	for _, f := range change {
		f(&o)
	}
	r.store = o.Store
	s := httptest.NewServer(admin.Handler(o))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

// A gateway serves three plans, of which free is the default.
type gateway struct {
	token string
	plans map[string]*quota.Plan
	orgs  bool
	terms bool // months can begin on other days
	// What AcceptData returns.
	lostParts int
	acceptErr error
	// What ReloadConfig returns.
	reloadWarnings []string
	reloadErr      error
}

// monitor is a gateway that has nothing to show.
type monitor struct{}

func (monitor) Session() admin.Session   { return admin.Session{Version: "1.2.3"} }
func (monitor) Overview() admin.Overview { return admin.Overview{} }

func withMonitor(o *admin.Options) {
	o.Registry = prometheus.NewRegistry()
	o.Monitor, o.Recent = monitor{}, recent.New(o.Registry)
}

func (g *gateway) Tokens() admin.Tokens                    { return admin.Tokens{Admin: g.token, Viewer: viewerToken} }
func (g *gateway) ReloadConfig() ([]string, error)         { return g.reloadWarnings, g.reloadErr }
func (g *gateway) AdminHosts() []string                    { return []string{"example.com"} }
func (g *gateway) AcceptData(context.Context) (int, error) { return g.lostParts, g.acceptErr }
func (g *gateway) EffectiveConfig() any                    { return nil }
func (g *gateway) HasOrganisations() bool                  { return g.orgs }
func (g *gateway) PlansFor(claim string) quota.PlanChoice {
	plans := quota.PlanChoice{Claimed: g.plans[claim], ByName: g.plans, Terms: g.terms}
	if plans.Claimed == nil {
		plans.Claimed = g.plans["free"]
	}
	return plans
}

func (r *testAPI) advance(d time.Duration) { r.clock.Add(int64(d)) }

// use counts a request of a user whose token claims a plan.
func (r *testAPI) use(user, plan, endpoint string) {
	r.Helper()
	ctx := context.Background()
	d, err := r.bolt.Reserve(ctx, quota.Request{ID: quota.NewID(), User: user, Endpoint: endpoint,
		Plans: quota.PlanChoice{Claimed: r.plans[plan], ByName: r.plans}, Lease: time.Minute})
	if err != nil || !d.Admitted {
		r.Fatalf("Reserve: admitted %v, error %v", d.Admitted, err)
	}
	if _, err := r.bolt.Commit(ctx, &d.Reservation); err != nil {
		r.Fatal(err)
	}
}

// do makes a request; fields are "Name: value" headers. A body is sent as JSON unless
// they say otherwise.
func (r *testAPI) do(method, path, body string, fields ...string) (status int, header http.Header, text string) {
	r.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		r.Errorf("%s %s: Cache-Control %q", method, path, got)
	}
	return res.StatusCode, res.Header, string(b)
}

// A state is the API's answer about a user.
type state struct {
	quota.Usage
	Window   string
	Claimed  *string
	Override *struct {
		Plan  string
		Until *time.Time
	}
	Nearest *struct {
		Limit, Status string
		Used, Of      int64
	}
	BlockedBy []string `json:"blocked_by"`
	Observe   bool
	Members   *struct {
		Limits     []struct{ Name string }
		Concurrent int64
	}
	Concurrent *struct{ Running, Limit int64 }
	Granted    []struct {
		Name     string
		Requests int64
	}
}

// ok makes a request that must succeed, and returns the user's state.
func (r *testAPI) ok(method, path, body string, fields ...string) (s state) {
	r.Helper()
	status, _, text := r.do(method, path, body, fields...)
	if err := json.Unmarshal([]byte(text), &s); err != nil || status != 200 {
		r.Fatalf("%s %s: %d, error %v: %s", method, path, status, err, text)
	}
	return s
}

// refused makes a request that must be refused, with an answer that contains say.
func (r *testAPI) refused(status int, say, method, path, body string, fields ...string) {
	r.Helper()
	got, header, text := r.do(method, path, body, fields...)
	var p struct{ Detail, Title string }
	if err := json.Unmarshal([]byte(text), &p); err != nil || got != status || !strings.Contains(p.Detail, say) || p.Title == "" ||
		header.Get("Content-Type") != "application/problem+json" {
		r.Errorf("%s %s %s: %d %s %s; want %d and %q", method, path, body, got, header.Get("Content-Type"), text, status, say)
	}
}
