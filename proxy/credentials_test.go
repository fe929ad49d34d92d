package proxy_test

import (
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/proxy/apikeys"
	"metergate/quota"
	"metergate/quota/testkit"
)

// newAPIKey makes a key, and its line of the file for a user. more are further members.
func newAPIKey(id, user, more string) (key, line string) {
	key = apikeys.New()
	k := apikeys.NewKey(key)
	return key, "- { id: " + id + ", hash: " + k.HashText() + ", user: " + user + more + " }\n"
}

// everywhere is a gateway that accepts credentials in all places, has these API keys, and has a
// route for upgrades and one that keeps cookies.
func everywhere(t *testing.T, keys string, change func(*proxy.Options)) *testGateway {
	return newTestGateway(t, setup{
		routes: []proxy.Route{{Pattern: "GET /ws/{rest...}", Upgrade: true}, {Pattern: "POST /keeps/", KeepCookie: true}, {Pattern: "POST /drops/", DropAuthorization: true}},
		change: func(o *proxy.Options) {
			acceptEverywhere(t, o, keys)
			if change != nil {
				change(o)
			}
		},
	})
}

var anyRoute = []string{"POST /api/analyze", "GET /api/status", "GET /usage", "GET /usage/stream", "POST /usage/track"}

func TestAPIKeyIsForItsUser(t *testing.T) {
	ci, ciLine := newAPIKey("ci-1", "u-17", ", plan: one, org: acme")
	plain, plainLine := newAPIKey("plain", "u-18", "")
	next, nextLine := newAPIKey("plain-next", "u-18", ", expires: 2999-12-31")
	var out lockedBuffer
	r := everywhere(t, ciLine+plainLine+nextLine, func(o *proxy.Options) { o.Log = slog.New(slog.NewJSONHandler(&out, nil)) })
	for _, header := range []string{"Authorization: Bearer ", "X-API-Key: "} {
		if res := r.do("", "GET", "/usage", nil, header+ci); res.StatusCode != 200 || !strings.Contains(res.body, `"user":"u-17","org":"acme","plan":"one"`) {
			t.Errorf("%s: %s %s", header, res.Status, res.body)
		}
	}
	// Both keys of a user count together.
	for _, key := range []string{plain, next} {
		if res := r.do("", "POST", "/api/analyze", nil, "X-API-Key: "+key); res.StatusCode != 200 {
			t.Errorf("%s %s", res.Status, res.body)
		}
	}
	r.want("u-18", "", 2)
	if res := r.do("", "POST", "/api/analyze", nil, "X-API-Key: "+ci); res.StatusCode != 200 || res.Header.Get("X-Usage") != "1/1" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	if res := r.do("", "POST", "/api/analyze", nil, "X-API-Key: "+ci); res.StatusCode != 429 {
		t.Errorf("%s", res.Status)
	}
	testkit.Eventually(t, "a log line that names the key", func() bool { return strings.Contains(out.String(), `"api_key":"ci-1"`) })
	for _, key := range []string{ci, plain, next} {
		if strings.Contains(out.String(), key[5:]) {
			t.Error("the log has a key")
		}
	}
}

// TestBadAPIKeyAnswers401: whatever is wrong with a key, the answer is 401, and nothing reaches an
// upstream or the store.
func TestBadAPIKeyAnswers401(t *testing.T) {
	good, line := newAPIKey("good", "u", "")
	expired, expiredLine := newAPIKey("expired", "u", ", expires: 2020-01-01")
	hash := apikeys.NewKey(good)
	r := everywhere(t, line+expiredLine, nil)
	signed := token("u", "")
	for name, headers := range map[string][]string{
		"another key":               {"X-API-Key: " + apikeys.New()},
		"another key as a token":    {"Authorization: Bearer " + apikeys.New()},
		"expired":                   {"X-API-Key: " + expired},
		"expired, as a token":       {"Authorization: Bearer " + expired},
		"cut":                       {"X-API-Key: " + good[:len(good)-1]},
		"longer":                    {"X-API-Key: " + good + "A"},
		"far too long":              {"X-API-Key: " + good + strings.Repeat("A", 30_000)},
		"lower case":                {"X-API-Key: " + strings.ToLower(good)},
		"upper case":                {"X-API-Key: " + strings.ToUpper(good)},
		"without its prefix":        {"X-API-Key: " + good[3:]},
		"without its prefix, there": {"Authorization: Bearer " + good[3:]},
		"only the prefix":           {"X-API-Key: mg_"},
		"the hash":                  {"X-API-Key: " + hash.HashText()},
		"the hash as a key":         {"X-API-Key: mg_" + hash.HashText()[7:]},
		"in quotes":                 {`X-API-Key: "` + good + `"`},
		"behind Bearer":             {"X-API-Key: Bearer " + good},
		"twice":                     {"X-API-Key: " + good, "X-API-Key: " + good},
		"two in one":                {"X-API-Key: " + good + "," + good},
		"with another one":          {"X-API-Key: " + good, "Authorization: Bearer " + apikeys.New()},
		"with the expired one":      {"X-API-Key: " + good, "Authorization: Bearer " + expired},
		"with a token":              {"X-API-Key: " + good, "Authorization: Bearer " + signed},
		"a bad one with a token":    {"X-API-Key: " + apikeys.New(), "Authorization: Bearer " + signed},
		"with a bad header":         {"X-API-Key: " + good, "Authorization: Bearer"},
		"in Basic":                  {"Authorization: Basic " + good},
		"as ApiKey":                 {"Authorization: ApiKey " + good},
		"in a cookie":               {"Cookie: session=" + good, "Origin: " + appOrigin},
		"in another header":         {"API-Key: " + good, "X-Api_Key: " + good},
		"a bad one and a cookie":    {"X-API-Key: " + apikeys.New(), "Cookie: session=" + signed, "Origin: " + appOrigin},
	} {
		for _, target := range anyRoute {
			method, path, _ := strings.Cut(target, " ")
			res := r.do("", method, path, nil, headers...)
			if res.StatusCode != 401 || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer ") || res.Header.Get("X-Usage") != "" {
				t.Errorf("%s: %s: %s %v %s", name, target, res.Status, res.Header, res.body)
			}
		}
	}
	for _, target := range anyRoute {
		method, path, _ := strings.Cut(target, " ")
		if res := r.do("", method, path+"?access_token="+good, nil); res.StatusCode != 401 {
			t.Errorf("a key in the query: %s: %s", target, res.Status)
		}
	}
	if sent, calls := len(r.requests()), r.store.calls.Load(); sent != 0 || calls != 0 {
		t.Errorf("%d requests reached the upstream, and the store was called %d times", sent, calls)
	}
	for key, want := range map[string]string{expired: "The API key has expired.", apikeys.New(): "The API key is not known."} {
		if res := r.do(key, "GET", "/usage", nil); !strings.Contains(res.body, want) {
			t.Errorf("%s, want %s", res.body, want)
		}
	}
}

// A gateway without tokens accepts only API keys.
func TestAPIKeysAloneAreEnough(t *testing.T) {
	key, line := newAPIKey("a", "u", "")
	r := everywhere(t, line, func(o *proxy.Options) { o.Verifier = nil })
	if res := r.do(key, "POST", "/api/analyze", nil); res.StatusCode != 200 {
		t.Errorf("%s %s", res.Status, res.body)
	}
	if res := r.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 401 || !strings.Contains(res.body, "Only API keys") {
		t.Errorf("%s %s", res.Status, res.body)
	}
}

// A request with the cookie that another site may have sent is answered 403. It costs no attempt
// and no call of the store.
func TestCookieOfAnotherSiteAnswers403(t *testing.T) {
	r := everywhere(t, "[]", func(o *proxy.Options) {
		free, err := quota.NewPlan(quota.PlanOptions{Name: "free", Endpoints: endpoints, WarnAt: 80, Attempts: quota.AttemptLimit{Requests: 1, Per: time.Hour},
			Limits: []quota.Limit{{Amount: 100, Period: quota.Month}}})
		if err != nil {
			t.Fatal(err)
		}
		o.Plans["free"] = free
		o.CORS = &proxy.CORS{AllowedOrigins: []string{appOrigin}, AllowCredentials: true}
	})
	cookie := "Cookie: session=" + token("u", "")
	for _, from := range [][]string{
		{"Origin: https://evil.example"}, {"Origin: null"}, {"Origin: https://evil.example", "Sec-Fetch-Site: same-origin"},
		{"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {"Sec-Fetch-Site: none"}, {"Referer: " + appOrigin + "/"}, {},
	} {
		for _, target := range []string{"POST /api/analyze", "POST /usage/track", "GET /usage/stream", "HEAD /usage/stream", "GET /ws/x"} {
			method, path, _ := strings.Cut(target, " ")
			headers := append([]string{cookie, "Connection: Upgrade", "Upgrade: websocket"}, from...)
			if path != "/ws/x" {
				headers = append([]string{cookie}, from...)
			}
			res := r.do("", method, path, nil, headers...)
			if res.StatusCode != 403 || res.Header.Get("X-Usage") != "" || method != "HEAD" &&
				(!strings.Contains(res.body, "auth.cookie.origins") || !strings.Contains(res.body, `"reason":"cross_site"`)) {
				t.Errorf("%v: %s: %s %s", from, target, res.Status, res.body)
			}
			// The same with the token in the header: no site can make a browser do that.
			if method == "POST" {
				continue // it would cost the one attempt
			}
			if res := r.do(token("u", ""), "HEAD", "/usage/stream", nil, from...); res.StatusCode != 200 {
				t.Errorf("%v, with a token in the header: %s", from, res.Status)
			}
		}
	}
	calls := r.store.calls.Load()
	r.do("", "POST", "/api/analyze", nil, cookie, "Origin: https://evil.example")
	if n := r.store.calls.Load() - calls; n != 0 {
		t.Errorf("the store was called %d times", n)
	}
	res := r.do("", "POST", "/api/analyze", nil, cookie, "Origin: "+appOrigin)
	if res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Credentials") != "true" || res.Header.Get("Access-Control-Allow-Origin") != appOrigin {
		t.Errorf("from the app, with the one attempt that there is: %s %v %s", res.Status, res.Header, res.body)
	}
	// Reading is allowed from everywhere; without CORS no other site can see the answer.
	if res := r.do("", "GET", "/usage", nil, cookie, "Origin: https://evil.example"); res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	if n := len(r.requests()); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

// What only the gateway needs does not reach the upstream.
func TestCredentialsStayInTheGateway(t *testing.T) {
	key, line := newAPIKey("a", "u", "")
	r := everywhere(t, line, nil)
	signed := token("u", "")
	last := func() *http.Request { all := r.requests(); return all[len(all)-1] }
	send := func(method, path string, headers ...string) *http.Request {
		t.Helper()
		res := r.do("", method, path, nil, headers...)
		if res.StatusCode != 200 {
			t.Fatalf("%s %s: %s %s", method, path, res.Status, res.body)
		}
		if strings.HasPrefix(path, "/ws/") && strings.Contains(path, "access_token=") != (res.Header.Get("Referrer-Policy") == "no-referrer" && res.Header.Get("Cache-Control") == "no-store") {
			t.Errorf("%s: %v", path, res.Header)
		}
		return last()
	}
	const origin = "Origin: " + appOrigin
	if got := send("POST", "/api/analyze", origin, "Cookie: theme=dark; session="+signed+"; lang=en"); got.Header.Get("Cookie") != "theme=dark; lang=en" {
		t.Errorf("the upstream got the cookies %v", got.Header["Cookie"])
	}
	if got := send("POST", "/keeps/", origin, "Cookie: theme=dark; session="+signed); got.Header.Get("Cookie") != "theme=dark; session="+signed {
		t.Errorf("the upstream got the cookies %v", got.Header["Cookie"])
	}
	if got := send("GET", "/api/health", "Cookie: session="+signed, "X-API-Key: "+key); got.Header["Cookie"] != nil || got.Header["X-Api-Key"] != nil {
		t.Errorf("without auth, the upstream got %v", got.Header)
	}
	got := send("GET", "/ws/x?b=%2f&access_token="+signed+"&a=1;&&", "Referer: "+appOrigin+"/?access_token="+signed)
	if got.RequestURI != "/ws/x?b=%2f&a=1;&&" || got.Header.Get("Referer") != appOrigin+"/" {
		t.Errorf("the upstream got %s from %s", got.RequestURI, got.Header.Get("Referer"))
	}
	if got := send("GET", "/ws/x?a=1", "Authorization: Bearer "+signed); got.RequestURI != "/ws/x?a=1" || got.Header.Get("Authorization") != "Bearer "+signed {
		t.Errorf("the upstream got %s %v", got.RequestURI, got.Header)
	}
	// On other routes the gateway does not take the token in the parameter. The upstream does not get it either.
	if got := send("POST", "/api/analyze?a=1&access_token="+signed, "Authorization: Bearer "+signed); got.RequestURI != "/api/analyze?a=1" {
		t.Errorf("the upstream got %s", got.RequestURI)
	}
	if got := send("POST", "/api/analyze", "X-API-Key: "+key, "Authorization: Basic dTpw"); got.Header["X-Api-Key"] != nil || got.Header.Get("Authorization") != "Basic dTpw" {
		t.Errorf("the upstream got %v", got.Header)
	}
	if got := send("POST", "/api/analyze", "Authorization: Bearer "+signed, "X-API-Key: of-the-upstream"); got.Header.Get("X-Api-Key") != "of-the-upstream" {
		t.Errorf("the upstream got %v", got.Header)
	}
	if got := send("POST", "/api/analyze", "Authorization: Bearer "+key); got.Header["Authorization"] != nil {
		t.Errorf("the upstream got %v", got.Header)
	}
	if got := send("POST", "/drops/", "Authorization: Bearer "+key, "X-API-Key: "+key); got.Header["Authorization"] != nil || got.Header["X-Api-Key"] != nil {
		t.Errorf("the upstream got %v", got.Header)
	}
	if n := len(r.do("", "GET", "/api/status?access_token="+signed, nil).body); n == 0 || last().URL.Path == "/api/status" {
		t.Error("a token in the query was accepted on a route without upgrade")
	}
}

// A stream goes on for as long as its API key is good, and ends when a reload takes it away.
func TestStreamEndsWithItsAPIKey(t *testing.T) {
	key, line := newAPIKey("a", "u", "")
	rotated, rotatedLine := newAPIKey("b", "u", "")
	r := everywhere(t, line, func(o *proxy.Options) { o.Streams = proxy.NewStreams() })
	var current atomic.Pointer[proxy.Gateway]
	r.gateway.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { current.Load().ServeHTTP(w, req) })
	reload := func(keys string) {
		o := r.options
		acceptEverywhere(t, &o, keys)
		g, err := proxy.New(o)
		if err != nil {
			t.Fatal(err)
		}
		current.Store(g)
		o.Streams.Follow(g)
	}
	reload(line)
	stream := r.stream(key)
	if u := stream.usage(); u.User != "u" {
		t.Fatalf("%+v", u)
	}
	reload(line + rotatedLine)
	if res := r.do(rotated, "POST", "/api/analyze", nil); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	stream.until(1, 0) // it has outlived the reload
	reload(rotatedLine)
	if e := stream.end(); e.data != `{"reason":"reload"}` {
		t.Errorf("%+v", e)
	}
	if res := r.do(key, "GET", "/usage", nil); res.StatusCode != 401 {
		t.Errorf("the key is still good: %s", res.Status)
	}
}

// A stream ends when its API key expires.
func TestStreamEndsWhenAPIKeyExpires(t *testing.T) {
	for wait := 2 * time.Second; ; wait *= 2 {
		expires := time.Now().Add(wait).UTC().Truncate(time.Second)
		key, line := newAPIKey("a", "u", ", expires: "+expires.Format(time.RFC3339))
		s := everywhere(t, line, nil).stream(key)
		if s.res.StatusCode == 401 && wait < time.Minute {
			continue // the machine was too slow
		}
		if e := s.end(); e.data != `{"reason":"token_expired"}` || time.Now().Before(expires) {
			t.Errorf("%+v", e)
		}
		return
	}
}

// end reads the event that ends a stream.
func (s *stream) end() event {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended without saying why: %v", s.lines.Err())
		}
		if e.name == "end" {
			return e
		}
	}
}
