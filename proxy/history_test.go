package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/proxy/jwtauth"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/testkit"
)

// A historyStore is an embedded store with a history and a clock of its own. It counts how often the
// history is read, which fails while down is set.
type historyStore struct {
	proxy.Store
	now   atomic.Pointer[time.Time]
	reads atomic.Int64
	down  atomic.Bool
	stale atomic.Bool // what Read returns is
}

func newHistoryStore(t *testing.T, days int) *historyStore {
	t.Helper()
	s := new(historyStore)
	s.setTime(midMonth())
	store, err := boltstore.Open(t.TempDir(), boltstore.Options{HistoryDays: days, Now: func() time.Time { return *s.now.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s.Store = store
	return s
}

func (s *historyStore) setTime(at time.Time) { s.now.Store(&at) }

func (s *historyStore) Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error) {
	snapshot, err := s.Store.Read(ctx, user, plans)
	snapshot.Stale = s.stale.Load()
	return snapshot, err
}

func (s *historyStore) History(ctx context.Context, user string, days int) (quota.History, error) {
	s.reads.Add(1)
	if s.down.Load() {
		return quota.History{}, errors.New("the store is down")
	}
	return s.Store.History(ctx, user, days)
}

// keeping turns a history of so many days on.
func keeping(days int) func(*proxy.Options) {
	return func(o *proxy.Options) { o.HistoryDays = days }
}

// get reads a resource of the gateway, which answers 200 with a JSON object.
func (r *testGateway) get(token, path string, to any) {
	r.t.Helper()
	res := r.do(token, "GET", path, nil)
	if err := json.Unmarshal([]byte(res.body), to); err != nil || res.StatusCode != 200 {
		r.t.Fatalf("GET %s: %s %v: %s", path, res.Status, err, res.body)
	}
}

// TestHistoryHasEveryDay: each day of the range is there, in order, with the endpoints that were used
// on it, also those that the configuration no longer has.
func TestHistoryHasEveryDay(t *testing.T) {
	store := newHistoryStore(t, 35)
	r := newTestGateway(t, setup{store: store, change: keeping(35)})
	tok := token("u-17", "enterprise")
	_, err := store.Store.(*boltstore.Store).ApplyChange(t.Context(), "u-17", r.handler.PlansFor(""),
		quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"removed": 7}})
	if err != nil {
		t.Fatal(err)
	}
	store.setTime(midMonth().AddDate(0, 0, 2))
	for _, path := range []string{"/api/analyze", "/api/analyze", "/api/image-analysis"} {
		if res := r.do(tok, "POST", path, nil); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
	r.do(token("other", ""), "POST", "/api/analyze", nil)

	res := r.do(tok, "GET", "/usage/history?days=4", nil)
	const want = `{"user":"u-17","per":"day","from":"2026-11-11","to":"2026-11-14","timezone":"UTC","days":[` +
		`{"date":"2026-11-11","used":0,"endpoints":{}},` +
		`{"date":"2026-11-12","used":7,"endpoints":{"removed":{"used":7}}},` +
		`{"date":"2026-11-13","used":0,"endpoints":{}},` +
		`{"date":"2026-11-14","used":3,"endpoints":{"analyze":{"used":2},"image-analysis":{"used":1}}}],` +
		`"stale":false,"as_of":"2026-11-14T12:30:00Z"}` + "\n"
	if res.StatusCode != 200 || res.body != want {
		t.Errorf("%s: %s\nwant %s", res.Status, res.body, want)
	}
	var month quota.HistoryUsage
	if r.get(tok, "/usage/history", &month); len(month.Days) != 30 || month.From != "2026-10-16" || month.To != "2026-11-14" {
		t.Errorf("without days: %d days from %s to %s, want 30", len(month.Days), month.From, month.To)
	}
}

// TestHistoryNamesZoneOrganisationAndUnits: days begin in the time zone of the configuration, a member
// sees their organisation and their own numbers, and units are there if the plan reports them.
func TestHistoryNamesZoneOrganisationAndUnits(t *testing.T) {
	store := newHistoryStore(t, 3)
	r := withCosts(t, setup{store: store, change: func(o *proxy.Options) {
		o.HistoryDays = 3
		var err error
		if o.Location, err = time.LoadLocation("Europe/Berlin"); err != nil {
			t.Fatal(err)
		}
		if o.Verifier, err = jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}, OrgClaim: "org"}); err != nil {
			t.Fatal(err)
		}
	}})
	member, other := testkit.MemberToken("acme", "u", "units"), testkit.MemberToken("acme", "other", "units")
	for _, tok := range []string{member, member, other} {
		r.do(tok, "POST", "/cost/image", nil)
	}
	var h quota.HistoryUsage
	r.get(member, "/usage/history", &h)
	if h.User != "u" || h.Org != "acme" || h.Timezone != "Europe/Berlin" || len(h.Days) != 3 {
		t.Fatalf("%+v", h)
	}
	today := h.Days[2]
	if image := today.Endpoints["image-analysis"]; today.Used != 2 || today.Units == nil || *today.Units != 10 || image.Used != 2 || *image.Units != 10 || *h.Days[0].Units != 0 {
		t.Errorf("%+v", h.Days)
	}
}

// TestHistoryNamesItsBounds: whatever is not a day of the history is refused, and the answer says
// which days are not. Other parameters have no meaning, as for GET /usage.
func TestHistoryNamesItsBounds(t *testing.T) {
	r := newTestGateway(t, setup{store: newHistoryStore(t, 35), change: keeping(35)})
	for _, query := range []string{"?days=1", "?days=35", "?other=36", "?days=%33%30", "?", ""} {
		if res := r.do(token("u", ""), "GET", "/usage/history"+query, nil); res.StatusCode != 200 {
			t.Errorf("%q: %s %s", query, res.Status, res.body)
		}
	}
	for _, query := range []string{"?days=0", "?days=36", "?days=-1", "?days=", "?days", "?days=07", "?days=+7", "?days=7d", "?days=1e1", "?days=7.0", "?days=%20", "?days=%zz",
		"?days=7;x", "?days=7&days=7", "?days=9223372036854775808", "?days=%EF%BC%97"} {
		res := r.do(token("u", ""), "GET", "/usage/history"+query, nil)
		if res.StatusCode != 400 || res.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(res.body, `"detail":"The parameter days must be given once, as a whole number from 1 to 35."`) {
			t.Errorf("%q: %s %s", query, res.Status, res.body)
		}
	}
}

// TestHistoryIsOff: without the key history, /usage/history is 404, nothing asks the store for a history,
// and the usage object does not say when the limit will be reached.
func TestHistoryIsOff(t *testing.T) {
	store := newHistoryStore(t, 0)
	r := newTestGateway(t, setup{store: store})
	for range 2 {
		r.do(token("u", "one"), "POST", "/api/analyze", nil)
	}
	res := r.do(token("u", "one"), "GET", "/usage/history?days=nonsense", nil)
	if res.StatusCode != 404 || !strings.Contains(res.body, "history.keep") || !strings.Contains(res.body, `"reason":"no_history"`) {
		t.Errorf("%s %s", res.Status, res.body)
	}
	s := r.stream(token("u", "one"))
	event, _ := s.next()
	for _, text := range []string{event.data, r.do(token("u", "one"), "GET", "/usage", nil).body, r.do(token("u", "one"), "POST", "/api/analyze", nil).body} {
		if !strings.Contains(text, `"user":"u"`) || strings.Contains(text, "exhausts_at") {
			t.Errorf("the usage is %s", text)
		}
	}
	if n := store.reads.Load(); n != 0 {
		t.Errorf("the history was read %d times", n)
	}
}

// TestHistoryIsAnsweredLikeUsage: with and without a good token, with every method and from every
// origin, GET /usage/history has the status and the headers of GET /usage.
func TestHistoryIsAnsweredLikeUsage(t *testing.T) {
	r := newTestGateway(t, setup{store: newHistoryStore(t, 35), change: func(o *proxy.Options) {
		o.HistoryDays, o.QueryParam = 35, "access_token"
		o.Cookie, o.CookieOrigins = "session", []string{"https://app.example.com"}
		o.CORS = &proxy.CORS{AllowedOrigins: []string{"https://app.example.com"}}
	}})
	tok := token("u", "")
	for _, c := range []struct {
		method, token, query string
		fields               []string
	}{
		{"GET", tok, "", nil},
		{"HEAD", tok, "", nil},
		{"POST", tok, "", nil},
		{"OPTIONS", "", "", nil},
		{"TRACE", "", "", nil},
		{"GET", "", "", nil},
		{"GET", "nonsense", "", nil},
		{"GET", "", "?access_token=" + tok, nil}, // only streams and upgrades take it there
		{"GET", "", "", []string{"Cookie: session=" + tok}},
		{"POST", "", "", []string{"Cookie: session=" + tok, "Origin: https://evil.example"}},
		{"GET", tok, "", []string{"Origin: https://app.example.com"}},
		{"GET", tok, "", []string{"Origin: https://evil.example"}},
		{"OPTIONS", "", "", []string{"Origin: https://app.example.com", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"}},
	} {
		var got []string
		for _, path := range []string{"/usage", "/usage/history"} {
			res := r.do(c.token, c.method, path+c.query, nil, c.fields...)
			for _, name := range []string{"Date", "X-Request-Id", "Content-Length"} {
				res.Header.Del(name)
			}
			got = append(got, fmt.Sprint(res.StatusCode, res.Header, c.method == "HEAD" && res.body != ""))
		}
		if got[0] != got[1] {
			t.Errorf("%s %q %q:\n/usage         %s\n/usage/history %s", c.method, c.query, c.fields, got[0], got[1])
		}
		if c.method == "GET" && c.token == tok && !strings.Contains(got[1], "Cache-Control:[no-store]") {
			t.Errorf("it may be cached: %s", got[1])
		}
	}
	// A configuration cannot have a route there, whatever its history.
	for _, days := range []int{0, 35} {
		o := r.options
		o.HistoryDays, o.Routes = days, append(slices.Clone(o.Routes), proxy.Route{Pattern: "GET /usage/history", Upstream: http.DefaultTransport, Timeout: time.Second})
		if _, err := proxy.New(o); err == nil || !strings.Contains(err.Error(), "the path is the gateway's own") {
			t.Errorf("a route there, with %d days: %v", days, err)
		}
	}
}

// TestHistoryThatCannotBeReadIs503 also checks that the usage object is answered all the same.
func TestHistoryThatCannotBeReadIs503(t *testing.T) {
	store := newHistoryStore(t, 35)
	r := newTestGateway(t, setup{store: store, change: keeping(35)})
	store.down.Store(true)
	if res := r.do(token("u", ""), "GET", "/usage/history", nil); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v %s", res.Status, res.Header, res.body)
	}
	for _, line := range []string{"GET /usage", "POST /usage/track"} {
		method, path, _ := strings.Cut(line, " ")
		if res := r.do(token("u", ""), method, path, nil); res.StatusCode != 200 || !strings.Contains(res.body, `"exhausts_at":null,`) {
			t.Errorf("%s: %s %s", line, res.Status, res.body)
		}
	}
	if e, _ := r.stream(token("u", "")).next(); !strings.Contains(e.data, `"exhausts_at":null,`) {
		t.Errorf("the stream sends %+v", e)
	}
}

// TestStaleUsageReadsNoHistory: a store that does not answer is waited for once.
func TestStaleUsageReadsNoHistory(t *testing.T) {
	store := newHistoryStore(t, 35)
	r := newTestGateway(t, setup{store: store, change: keeping(35)})
	store.stale.Store(true)
	if body := r.do(token("u", ""), "GET", "/usage", nil).body; !strings.Contains(body, `"exhausts_at":null,`) || !strings.Contains(body, `"stale":true`) {
		t.Error(body)
	}
	if e, _ := r.stream(token("u", "")).next(); !strings.Contains(e.data, `"exhausts_at":null,`) {
		t.Errorf("the stream sends %+v", e)
	}
	if n := store.reads.Load(); n != 0 {
		t.Errorf("the history was read %d times, want 0", n)
	}
}

// TestUsageSaysWhenItIsExhausted: at 10 a day, 20 requests last for two days. Only what reports usage
// reads the history for that, once, and no request that is metered.
func TestUsageSaysWhenItIsExhausted(t *testing.T) {
	for _, keep := range []int{7, 35} {
		store := newHistoryStore(t, keep)
		r := newTestGateway(t, setup{store: store, change: func(o *proxy.Options) {
			o.HistoryDays = keep
			o.Plans["ninety"] = newPlan("ninety", quota.Limit{Amount: 90, Period: quota.Month})
		}})
		tok, start := token("u", "ninety"), midMonth()
		if body := r.do(tok, "GET", "/usage", nil).body; !strings.Contains(body, `"exhausts_at":null,`) {
			t.Errorf("without requests: %s", body)
		}
		for day := range 7 {
			store.setTime(start.AddDate(0, 0, day))
			for range 10 {
				r.do(tok, "POST", "/api/analyze", nil)
			}
		}
		if n := store.reads.Swap(0); n != 1 {
			t.Errorf("the history was read %d times by GET /usage and metered requests, want 1", n)
		}
		const want = `"exhausts_at":"2026-11-20T12:30:00Z",` // two days from now
		for _, line := range []string{"GET /usage", "POST /usage/track"} {
			method, path, _ := strings.Cut(line, " ")
			if res := r.do(tok, method, path, nil); !strings.Contains(res.body, want) {
				t.Errorf("%s: %s", line, res.body)
			}
		}
		if e, _ := r.stream(tok).next(); !strings.Contains(e.data, want) {
			t.Errorf("the stream sends %+v", e)
		}
		if n := store.reads.Swap(0); n != 3 {
			t.Errorf("the history was read %d times for three answers", n)
		}
	}
}

// TestRefusalsReadNoHistory: a refusal says that the limit is exhausted now if nothing is left of the
// headline limit. Otherwise it says nothing about it.
func TestRefusalsReadNoHistory(t *testing.T) {
	store := newHistoryStore(t, 35)
	r := newTestGateway(t, setup{store: store, change: func(o *proxy.Options) {
		o.HistoryDays = 35
		o.Plans["no-images"] = newPlan("no-images", quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Period: quota.Month, Endpoint: "image-analysis"})
		o.Plans["none"] = newPlan("none", quota.Limit{Period: quota.Month})
	}})
	r.do(token("u", "one"), "POST", "/api/analyze", nil)
	for _, c := range []struct {
		plan, path string
		status     int
		want       string // empty: absent
	}{
		{"one", "/api/analyze", 429, `"exhausts_at":"2026-11-12T12:30:00Z"`},
		{"none", "/api/analyze", 403, `"exhausts_at":"2026-11-12T12:30:00Z"`},
		{"no-images", "/api/image-analysis", 403, ""},
	} {
		res := r.do(token("u", c.plan), "POST", c.path, nil)
		if res.StatusCode != c.status || !strings.Contains(res.body, `"as_of":"2026-11-12T12:30:00Z"`) || !strings.Contains(res.body, c.want) || c.want == "" && strings.Contains(res.body, "exhausts_at") {
			t.Errorf("%s: %s %s", c.plan, res.Status, res.body)
		}
		// GET /usage needs no history either if nothing is left.
		if body := r.do(token("u", c.plan), "GET", "/usage", nil).body; c.want != "" && !strings.Contains(body, c.want) {
			t.Errorf("%s: GET /usage says %s", c.plan, body)
		}
	}
	if n := store.reads.Load(); n != 1 { // by GET /usage with the plan no-images
		t.Errorf("the history was read %d times, want 1", n)
	}
}

// TestStreamSendsNoForecastAlone: a forecast moves with the time. An event is sent when anything else
// has changed.
func TestStreamSendsNoForecastAlone(t *testing.T) {
	store := newHistoryStore(t, 35)
	r := newTestGateway(t, setup{store: store, change: keeping(35)})
	tok := token("u", "")
	for range 90 {
		r.do(tok, "POST", "/api/analyze", nil)
	}
	s := r.stream(tok)
	first := s.usage()
	read := store.reads.Load()
	// The same numbers an hour later, of which the stream is told.
	store.setTime(midMonth().Add(time.Hour))
	r.store.calls.Store(0)
	_, err := store.Store.(*boltstore.Store).ApplyChange(t.Context(), "u", r.handler.PlansFor(""),
		quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"analyze": 80}})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the stream has looked", func() bool { return r.store.calls.Load() > 0 })
	r.do(tok, "POST", "/api/image-analysis", nil)
	var u quota.Usage
	for u = s.usage(); u.InFlight > 0; u = s.usage() {
		read++
	}
	if u.Used != 91 || u.ExhaustsAt.At.Equal(first.ExhaustsAt.At) || !u.AsOf.Equal(midMonth().Add(time.Hour)) {
		t.Errorf("after %+v the stream sent %+v", first, u)
	}
	if n := store.reads.Load() - read; n != 1 {
		t.Errorf("the history was read %d times for one event", n)
	}
}
