package admin_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy/admin"
	"metergate/quota"
	"metergate/quota/boltstore"
)

const token = "a token of operators"

var noon = time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)

// A testAPI is the admin API on a real store, whose clock stands until it is moved.
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
		"free": {{Requests: 100, Period: quota.Month}, {Requests: 20, Period: quota.Month, Endpoint: "image-analysis"}},
		"pro":  {{Requests: 5000, Period: quota.Month}, {Requests: 60, Period: quota.Minute}},
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
	o := admin.Options{Gateway: &gateway{token, r.plans}, Store: r.bolt, Calendar: calendar, Clock: r.bolt}
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
}

func (g *gateway) AdminToken() string              { return g.token }
func (g *gateway) ReloadConfig() ([]string, error) { return nil, nil }
func (g *gateway) EffectiveConfig() any            { return nil }
func (g *gateway) Terms(claim string) quota.PlanChoice {
	t := quota.PlanChoice{Claimed: g.plans[claim], ByName: g.plans}
	if t.Claimed == nil {
		t.Claimed = g.plans["free"]
	}
	return t
}

func (r *testAPI) advance(d time.Duration) { r.clock.Add(int64(d)) }

// use counts a request of a user with a token.
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

// do makes a request; fields are "Name: value". A body is JSON unless they say
// otherwise.
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

// A state is what the API says of a user.
type state struct {
	quota.Usage
	Window   string
	Claimed  *string
	Override *struct {
		Plan  string
		Until *time.Time
	}
	Granted []struct {
		Name     string
		Requests int64
	}
}

// ok makes a request that must succeed.
func (r *testAPI) ok(method, path, body string, fields ...string) (s state) {
	r.Helper()
	status, _, text := r.do(method, path, body, fields...)
	if err := json.Unmarshal([]byte(text), &s); err != nil || status != 200 {
		r.Fatalf("%s %s: %d, error %v: %s", method, path, status, err, text)
	}
	return s
}

// refused makes a request that must not, and whose answer must say why.
func (r *testAPI) refused(status int, say, method, path, body string, fields ...string) {
	r.Helper()
	got, header, text := r.do(method, path, body, fields...)
	var p struct{ Detail, Title string }
	if err := json.Unmarshal([]byte(text), &p); err != nil || got != status || !strings.Contains(p.Detail, say) || p.Title == "" ||
		header.Get("Content-Type") != "application/problem+json" {
		r.Errorf("%s %s %s: %d %s %s; want %d and %q", method, path, body, got, header.Get("Content-Type"), text, status, say)
	}
}

func TestOneUser(t *testing.T) {
	r := newTestAPI(t)
	const u = "/admin/users/u"
	// Who was never seen has used nothing, by the default plan, or another.
	s := r.ok("GET", u, "")
	if s.User != "u" || s.Plan != "free" || s.Used != 0 || *s.Limit != 100 || s.Claimed != nil || s.Override != nil || len(s.Granted) != 0 || s.Window != "2026-11" {
		t.Errorf("a user never seen: %+v", s)
	}
	if s := r.ok("GET", u+"?plan=pro", ""); s.Plan != "pro" || *s.Limit != 5000 {
		t.Errorf("taken for pro: %+v", s)
	}
	r.use("u", "pro", "analyze")
	if s := r.ok("GET", u, ""); s.Plan != "pro" || s.Used != 1 || s.Claimed == nil || *s.Claimed != "pro" {
		t.Errorf("after a call with a token of pro: %+v", s)
	}
	if s := r.ok("POST", u+"/grants", `{"requests":50,"reason":"a bad week"}`); *s.Limit != 5050 || len(s.Granted) != 1 || s.Granted[0].Name != "month" || s.Granted[0].Requests != 50 {
		t.Errorf("after a grant: %+v", s)
	}
	if s := r.ok("POST", u+"/grants", `{"requests":1,"per":"minute"}`); s.Limits[1].Limit != 61 {
		t.Errorf("after a grant of a minute: %+v", s)
	}
	if s := r.ok("PUT", u+"/plan", `{"plan":"free","until":"2026-11-25T00:00:00+01:00"}`); s.Plan != "free" || *s.Limit != 150 || s.Override.Plan != "free" ||
		!s.Override.Until.Equal(time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC)) || *s.Claimed != "pro" {
		t.Errorf("with another plan: %+v", s)
	}
	if s := r.ok("PUT", u+"/counts", `{"per":"month","endpoints":{"image-analysis":20,"analyze":30}}`); s.Used != 50 || s.Endpoints["image-analysis"].Status != "blocked" {
		t.Errorf("after counts were set: %+v", s)
	}
	if s := r.ok("DELETE", u+"/plan?reason=over", ""); s.Plan != "pro" || s.Override != nil || s.Used != 50 {
		t.Errorf("after the plan was cleared: %+v", s)
	}
	if s := r.ok("POST", u+"/reset", ""); s.Used != 0 || *s.Limit != 5050 {
		t.Errorf("after a reset: %+v", s)
	}
	r.ok("POST", u+"/reset", `{"reason":"again"}`)

	status, _, text := r.do("GET", u+"/audit", "")
	var list struct {
		User    string
		Entries []quota.AuditEntry
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 || list.User != "u" {
		t.Fatalf("audit: %d, error %v: %s", status, err, text)
	}
	var got []string
	for _, e := range list.Entries {
		got = append(got, fmt.Sprint(e.Action, " ", e.Reason))
		if e.By != "127.0.0.1" || !e.At.Equal(noon) {
			t.Errorf("%+v: by %q at %v", e, e.By, e.At)
		}
	}
	want := []string{"reset again", "reset ", "clear_plan over", "set_counts ", "set_plan ", "grant ", "grant a bad week"}
	if !slices.Equal(got, want) {
		t.Errorf("the audit list is %q, want %q", got, want)
	}
	if status, _, text := r.do("GET", "/admin/users/nobody/audit", ""); status != 200 || text != `{"user":"nobody","entries":[]}`+"\n" {
		t.Errorf("nobody's audit list: %d %s", status, text)
	}
	if status, _, text := r.do("HEAD", u, ""); status != 200 || text != "" {
		t.Errorf("HEAD: %d %q", status, text)
	}
}

// Past windows of all kinds, and running ones.
func TestWindows(t *testing.T) {
	r := newTestAPI(t)
	r.use("u", "free", "analyze")
	r.ok("PUT", "/admin/users/u/counts", `{"per":"day","endpoints":{"analyze":4}}`)
	r.ok("PUT", "/admin/users/u/counts", `{"per":"hour","endpoints":{"analyze":3}}`)
	r.ok("PUT", "/admin/users/u/counts", `{"per":"week","endpoints":{"analyze":5}}`)
	r.ok("PUT", "/admin/users/u/counts", `{"per":"year","endpoints":{"analyze":6}}`)
	r.ok("POST", "/admin/users/u/grants", `{"requests":7}`)
	for _, later := range []time.Duration{0, 10 * time.Hour} {
		r.advance(later)
		for at, want := range map[string]int64{
			"2026-11": 1, "2026-11-24": 4, "2026-W48": 5, "2026": 6, "2026-11-24T12": 3, "2026-11-24T12%2B0000": 3, "2026-11-24T12+0000": 3,
			"2026-10": 0, "2025-12-31": 0, "2026-11-24T11": 0,
		} {
			s := r.ok("GET", "/admin/users/u?at="+at, "")
			window := strings.NewReplacer("%2B", "+").Replace(at)
			if s.Used != want || s.Endpoints["analyze"].Used != want || !strings.HasPrefix(s.Window, window) {
				t.Errorf("at %s: %d used, %+v, window %s; want %d", at, s.Used, s.Endpoints, s.Window, want)
			}
			// Only the month has limits.
			if month := s.Period.Period == quota.Month; (s.Limit != nil) != month || len(s.Limits) != map[bool]int{true: 2}[month] {
				t.Errorf("at %s: limits %+v", at, s.Limits)
			}
		}
	}
	r.refused(422, "over for longer", "GET", "/admin/users/u?at=2026-11-24T12:00", "") // minutes stay for two hours
	if s := r.ok("GET", "/admin/users/u?at=2026-11", ""); *s.Limit != 107 {
		t.Errorf("limit %d, want 100 and what was granted", *s.Limit)
	}
	r.refused(400, "names no window", "GET", "/admin/users/u?at=yesterday", "")
	r.refused(400, "names no window", "GET", "/admin/users/u?at=", "")
	r.refused(422, "in the future", "GET", "/admin/users/u?at=2026-12", "")
	r.refused(422, "over for longer", "GET", "/admin/users/u?at=2024-12", "")
}

// Each id has its own user, whatever it looks like in a path.
func TestHostileIDs(t *testing.T) {
	r := newTestAPI(t)
	ids := []string{
		"https://issuer/u/1", "a//b", "..", ".", "...", "/", "//", "/../x", "a/", "/a", "a b", " ", "+", "a+b", "%", "%2F", "%2f%2F", "a%2Fb", "a/b", "?", "a?at=2026", "#", "a#b", ";", "a;b",
		"reset", "plan", "a/plan", "u/reset", "audit", "users", "日本語", "é", "e\u0301", `"`, `\`, `..\x`, "=1+1", "+1", "-1", "@SUM(A1)", "a,b", `a"b`, "*", "{user}", strings.Repeat("😀", 64),
	}
	everyByte := func(id string) string {
		var b strings.Builder
		for i := range len(id) {
			fmt.Fprintf(&b, "%%%02X", id[i])
		}
		return b.String()
	}
	for i, id := range ids {
		r.ok("PUT", "/admin/users/"+url.PathEscape(id)+"/counts", fmt.Sprintf(`{"per":"month","endpoints":{"analyze":%d}}`, i+1))
	}
	for i, id := range ids {
		for _, path := range []string{url.PathEscape(id), everyByte(id), strings.ToLower(everyByte(id))} {
			if s := r.ok("GET", "/admin/users/"+path, ""); s.User != id || s.Used != int64(i)+1 {
				t.Errorf("%q at %s: user %q, used %d, want %d", id, path, s.User, s.Used, i+1)
			}
		}
	}
	// They stand in lists as they are.
	_, _, text := r.do("GET", "/admin/users?format=csv", "")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != len(ids)+1 {
		t.Fatalf("%d rows, error %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		if i := slices.Index(ids, row[0]); i < 0 || row[3] != fmt.Sprint(i+1) || row[1] != "free" || row[2] != "analyze" {
			t.Errorf("row %q", row)
		}
	}
	for _, path := range []string{"/admin/users/", "/admin/users//plan", "/admin/users/a/b", "/admin/users/a/plan/", "/admin/users/a/", "/admin/users/a/plan/x",
		"/admin/users/a/Plan", "/admin/users/a/%70lan", "/admin/users/https://issuer/u"} {
		r.refused(404, "%2F", "GET", path, "")
	}
	for _, path := range []string{"/admin/users/%00", "/admin/users/a%0Ab", "/admin/users/%ff", "/admin/users/" + strings.Repeat("a", 257)} {
		r.refused(400, "user's id", "GET", path, "")
		r.refused(400, "user's id", "POST", path+"/reset", "")
	}
	r.refused(404, "Nothing is here", "GET", "/admin/usersx", "")
}

// What is not understood changes nothing, and the answer says what and where.
func TestRefusedChanges(t *testing.T) {
	r := newTestAPI(t)
	const u = "/admin/users/u"
	big := strings.Repeat(" ", 64<<10)
	for _, c := range []struct {
		status                  int
		say, method, path, body string
	}{
		{400, `"request" is no field, there are endpoint, per, reason, requests`, "POST", "/grants", `{"request":5}`},
		{400, `"Requests" is no field`, "POST", "/grants", `{"Requests":5}`},
		{400, "body: requests: must be a whole number, got \"5\"", "POST", "/grants", `{"requests":"5"}`},
		{400, "body: requests: must be a whole number, got 1.5", "POST", "/grants", `{"requests":1.5}`},
		{400, "body: requests: must be a whole number", "POST", "/grants", `{"requests":99999999999999999999}`},
		{400, "requests is given twice", "POST", "/grants", `{"requests":5,"requests":6}`},
		{400, "after the JSON object", "POST", "/grants", `{"requests":5}{}`},
		{400, "after the JSON object", "POST", "/grants", `{"requests":5} x`},
		{400, "the text ends before", "POST", "/grants", `{"requests":5`},
		{400, "the text ends before", "POST", "/grants", `{"requests":`},
		{400, "the text ends before", "POST", "/grants", ` `},
		{400, "it is not JSON at byte 14", "POST", "/grants", `{"requests":5,}`},
		{400, "a JSON object is wanted, got [5]", "POST", "/grants", `[5]`},
		{400, "a JSON object is wanted, got null", "POST", "/grants", `null`},
		{400, "not UTF-8", "POST", "/grants", "{\"requests\":5,\"reason\":\"\xff\"}"},
		{400, "requests must be 1 to", "POST", "/grants", `{}`},
		{400, "requests must be 1 to", "POST", "/grants", `{"requests":0}`},
		{400, "requests must be 1 to", "POST", "/grants", `{"requests":-5}`},
		{400, "requests must be 1 to", "POST", "/grants", `{"requests":null}`},
		{400, "per: must be minute, hour, day, week, month or year", "POST", "/grants", `{"requests":5,"per":"fortnight"}`},
		{400, "per must be", "POST", "/grants", `{"requests":5,"endpoint":"analyze"}`},
		{400, "reason must be", "POST", "/grants", `{"requests":5,"reason":"a\u0000b"}`},
		{422, "free has no limit analyze-month. It has month, image-analysis-month", "POST", "/grants", `{"requests":5,"endpoint":"analyze","per":"month"}`},
		{422, "free has no limit day", "POST", "/grants", `{"requests":5,"per":"day"}`},
		{422, "open has no headline limit", "POST", "/grants?plan=open", `{"requests":5}`},
		{422, `there is no plan "gold", there are free, open, pro`, "POST", "/grants?plan=gold", `{"requests":5}`},
		{413, "65536 bytes", "POST", "/grants", `{"requests":5}` + big},
		{422, `there is no plan "gold", there are free, open, pro`, "PUT", "/plan", `{"plan":"gold"}`},
		{400, "plan", "PUT", "/plan", `{}`},
		{422, "is over", "PUT", "/plan", `{"plan":"pro","until":"2026-11-24T12:00:00Z"}`},
		{400, `until: must be a time like "2026-12-31T00:00:00Z", got "tomorrow"`, "PUT", "/plan", `{"plan":"pro","until":"tomorrow"}`},
		{400, "until: must be a time like", "PUT", "/plan", `{"plan":"pro","until":1796083200}`},
		{400, "analyze: must be a whole number", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":"5"}}`},
		{400, "analyze: must be a whole number", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":null}}`},
		{400, "analyze is given twice", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":5,"analyze":6}}`},
		{400, "must be 0 to", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":-1}}`},
		{400, "counts must have 1 to", "PUT", "/counts", `{"per":"month"}`},
		{400, "per must be", "PUT", "/counts", `{"endpoints":{"analyze":5}}`},
		{422, `no route counts under "analize", there are analyze, image-analysis`, "PUT", "/counts", `{"per":"month","endpoints":{"analize":5}}`},
		{422, "over 1000000000000", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":1000000000000,"image-analysis":1}}`},
		{400, `"why" is no field, there are reason`, "POST", "/reset", `{"why":"x"}`},
		{400, `query: "at" is no parameter: there are none here`, "POST", "/reset?at=2026", ""},
		{400, "query: reason is given twice", "DELETE", "/plan?reason=a&reason=b", ""},
		{400, `query: "until" is no parameter: there are reason`, "DELETE", "/plan?until=x", ""},
		{400, `"att" is no parameter: there are at, plan`, "GET", "?att=2026-10", ""},
		{400, "query:", "GET", "?at=%zz", ""},
		{422, `there is no plan "gold"`, "GET", "?plan=gold", ""},
		{400, `"x" is no parameter`, "GET", "/audit?x", ""},
		{405, "served for POST", "GET", "/grants", ""},
		{405, "served for DELETE, PUT", "GET", "/plan", ""},
		{405, "served for GET, HEAD", "DELETE", "", ""},
	} {
		r.refused(c.status, c.say, c.method, u+c.path, c.body)
	}
	r.refused(415, "Content-Type must be application/json", "POST", u+"/grants", `{"requests":5}`, "Content-Type: text/plain")
	r.refused(415, "Content-Type must be application/json", "POST", u+"/grants", `{"requests":5}`, "Content-Type: ")
	r.refused(401, "token", "POST", u+"/grants", `{"requests":5}`, "Authorization: Bearer x")
	r.refused(401, "token", "GET", "/admin/users", "", "Authorization: ")
	r.refused(401, "token", "GET", "/admin/users/a/b/c", "", "Authorization: ") // who has none learns nothing
	if _, header, _ := r.do("PATCH", u+"/plan", ""); header.Get("Allow") != "DELETE, PUT" {
		t.Errorf("Allow is %q", header.Get("Allow"))
	}
	if status, _, text := r.do("GET", u+"/audit", ""); status != 200 || !strings.Contains(text, `"entries":[]`) {
		t.Errorf("something was changed: %s", text)
	}
	r.ok("POST", u+"/grants", `{"requests":5}`, "Content-Type: Application/JSON; charset=utf-8")
	off := newTestAPI(t, func(o *admin.Options) { o.Gateway.(*gateway).token = "" })
	off.refused(403, "admin.token", "GET", u, "")
}

// A grant that is sent twice with a key is made once.
func TestIdempotencyKey(t *testing.T) {
	r := newTestAPI(t)
	const u = "/admin/users/u"
	for _, key := range []string{"k1", `"k1"`, "k1"} {
		if s := r.ok("POST", u+"/grants", `{"requests":5}`, "Idempotency-Key: "+key); *s.Limit != 105 {
			t.Errorf("limit %d, want 105", *s.Limit)
		}
	}
	r.refused(409, "Another change", "POST", u+"/grants", `{"requests":6}`, "Idempotency-Key: k1")
	if s := r.ok("POST", u+"/grants", `{"requests":6}`, "Idempotency-Key: k2"); *s.Limit != 111 {
		t.Errorf("limit %d, want 111", *s.Limit)
	}
	if s := r.ok("POST", "/admin/users/v/grants", `{"requests":6}`, "Idempotency-Key: k1"); *s.Limit != 106 {
		t.Errorf("limit %d of another user, want 106", *s.Limit)
	}
	for _, bad := range []string{"", `""`, "é", strings.Repeat("k", 257)} {
		status, _, text := r.do("POST", u+"/grants", `{"requests":5}`, "Idempotency-Key: "+bad)
		if status != 400 {
			t.Errorf("the key %q: %d %s", bad, status, text)
		}
	}
	for i := range quota.MaxChangeIDs - 2 {
		r.ok("POST", u+"/grants", `{"requests":1}`, fmt.Sprint("Idempotency-Key: n", i))
	}
	r.refused(429, "without", "POST", u+"/grants", `{"requests":1}`, "Idempotency-Key: more")
	r.ok("POST", u+"/grants", `{"requests":1}`)
}

func TestList(t *testing.T) {
	r := newTestAPI(t)
	if status, header, text := r.do("GET", "/admin/users", ""); status != 200 || text != "" || header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("nobody: %d %s %q", status, header.Get("Content-Type"), text)
	}
	if _, _, text := r.do("GET", "/admin/users?format=csv", ""); text != "user,plan,endpoint,used\r\n" {
		t.Errorf("nobody as CSV: %q", text)
	}
	r.use("token", "pro", "analyze")
	r.use("token", "pro", "image-analysis")
	r.ok("PUT", "/admin/users/=cmd()/counts", `{"per":"month","endpoints":{"analyze":12}}`)
	r.ok("PUT", "/admin/users/=cmd()/plan", `{"plan":"open","until":"2026-12-05T00:00:00Z"}`)
	r.ok("PUT", "/admin/users/a%2C%22b/counts", `{"per":"day","endpoints":{"analyze":7}}`)
	wantCSV := "user,plan,endpoint,used\r\n=cmd(),open,analyze,12\r\ntoken,pro,analyze,1\r\ntoken,pro,image-analysis,1\r\n"
	wantLines := `{"user":"=cmd()","plan":"open","used":12,"endpoints":{"analyze":12},"claimed":null,"override":{"plan":"open","until":"2026-12-05T00:00:00Z"}}` + "\n" +
		`{"user":"token","plan":"pro","used":2,"endpoints":{"analyze":1,"image-analysis":1},"claimed":"pro","override":null}` + "\n"
	for _, later := range []time.Duration{0, 10 * 24 * time.Hour} { // the next month
		r.advance(later)
		for query, want := range map[string]string{
			"?at=2026-11&format=csv": wantCSV, "?at=2026-11": wantLines, "?at=2026-11&format=jsonl": wantLines,
			"?at=2026-11-24&format=csv&per=month": wantCSV,
			"?at=2026-11-24&format=csv":           "user,plan,endpoint,used\r\n\"a,\"\"b\",free,analyze,7\r\n",
			"?at=2026-10&format=csv":              "user,plan,endpoint,used\r\n",
		} {
			status, header, text := r.do("GET", "/admin/users"+query, "")
			kind := map[bool]string{true: "text/csv; charset=utf-8; header=present", false: "application/jsonl"}[strings.Contains(query, "csv")]
			if status != 200 || text != want || header.Get("Content-Type") != kind {
				t.Errorf("%s: %d %s:\n%s\nwant:\n%s", query, status, header.Get("Content-Type"), text, want)
			}
		}
	}
	if _, _, text := r.do("GET", "/admin/users", ""); text != "" {
		t.Errorf("in December: %s", text)
	}
	if status, header, text := r.do("HEAD", "/admin/users?format=csv&at=2026-11", ""); status != 200 || text != "" || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		t.Errorf("HEAD: %d %v", status, header)
	}
	r.refused(400, "format: must be jsonl or csv", "GET", "/admin/users?format=xml", "")
	r.refused(400, "per: must be minute", "GET", "/admin/users?per=decade", "")
	r.refused(400, "names no window", "GET", "/admin/users?at=now", "")
	r.refused(422, "in the future", "GET", "/admin/users?at=2027", "")
	r.refused(400, `"limit" is no parameter: there are at, per, format`, "GET", "/admin/users?limit=5", "")
	r.refused(405, "GET, HEAD", "POST", "/admin/users", "")
}

// brokenStore fails, the list after some users.
type brokenStore struct {
	admin.Store
	listed int
}

var errDown = errors.New("down")

func (s brokenStore) Read(context.Context, string, quota.PlanChoice) (quota.Snapshot, error) {
	return quota.Snapshot{}, errDown
}
func (s brokenStore) ClaimedPlan(context.Context, string) (string, error) { return "", nil }
func (s brokenStore) ApplyChange(context.Context, string, quota.PlanChoice, quota.Change) (quota.Snapshot, error) {
	return quota.Snapshot{}, errDown
}
func (s brokenStore) AuditLog(context.Context, string) ([]quota.AuditEntry, error) {
	return nil, errDown
}
func (s brokenStore) ScanUsers(_ context.Context, _ quota.Period, _ time.Time, yield func(quota.UserUsage) error) error {
	for i := range s.listed {
		if err := yield(quota.UserUsage{User: fmt.Sprint(i), Used: 1, Endpoints: map[string]int64{"analyze": 1}}); err != nil {
			return err
		}
	}
	return errDown
}

// A store that does not answer is 503, and half a list is not taken for a whole one.
func TestStoreDown(t *testing.T) {
	r := newTestAPI(t, func(o *admin.Options) { o.Store = brokenStore{Store: o.Store} })
	for _, path := range []string{"/admin/users/u", "/admin/users/u/audit", "/admin/users", "/admin/users?format=csv"} {
		r.refused(503, "The store does not answer. Try again", "GET", path, "")
	}
	r.refused(503, "may have been made", "POST", "/admin/users/u/grants", `{"requests":5}`)
	if _, header, text := r.do("GET", "/admin/users/u", ""); header.Get("Retry-After") != "1" || strings.Contains(text, errDown.Error()) {
		t.Errorf("%v %s", header, text)
	}
	for _, format := range []string{"csv", "jsonl"} {
		r := newTestAPI(t, func(o *admin.Options) { o.Store = brokenStore{o.Store, 3} })
		req, _ := http.NewRequest("GET", r.url+"/admin/users?format="+format, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // nothing had been sent
		}
		defer res.Body.Close()
		if text, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: the list ends well after %q", format, text)
		}
	}
}
