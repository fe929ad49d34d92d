package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

// answerStatus answers with the status of the query's status parameter.
func answerStatus(w http.ResponseWriter, r *http.Request) {
	status, _ := strconv.Atoi(r.URL.Query().Get("status"))
	if status/100 == 3 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

func TestOnly2xxCounts(t *testing.T) {
	r := newTestGateway(t, setup{upstream: answerStatus})
	for _, status := range []int{200, 201, 202, 204, 206, 299, 300, 301, 304, 400, 401, 404, 429, 500, 502, 503} {
		user := fmt.Sprint("user-", status)
		res := r.do(token(user, ""), "POST", fmt.Sprint("/api/analyze?status=", status), strings.NewReader("text"))
		if res.StatusCode != status {
			t.Errorf("status %d came as %d", status, res.StatusCode)
		}
		used := 0
		if status/100 == 2 {
			used = 1
		}
		r.want(user, "", int64(used))
		if want := fmt.Sprintf("%d/100", used); res.Header.Get("X-Usage") != want {
			t.Errorf("status %d: X-Usage is %q, want %q", status, res.Header.Get("X-Usage"), want)
		}
	}
}

func TestFieldsOfAResponse(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Usage", "X-Request-Id"} {
			w.Header().Set(name, "the upstream's own")
		}
		w.Header().Set("X-Other", "stays")
	}})
	res := r.do(token("u", ""), "POST", "/api/image-analysis", nil)
	now := time.Now().UTC()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(0, 1, 0)
	seconds := int(end.Sub(start).Seconds())
	for name, want := range map[string]string{
		"RateLimit-Policy":      fmt.Sprintf(`"month";q=100;w=%d, "image-analysis-month";q=20;w=%[1]d`, seconds),
		"X-RateLimit-Limit":     "100",
		"X-RateLimit-Remaining": "99",
		"X-RateLimit-Reset":     fmt.Sprint(end.Unix()),
		"X-Usage":               "1/100",
		"X-Other":               "stays",
	} {
		if got := res.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var left, imagesLeft, in, imagesIn int
	if _, err := fmt.Sscanf(res.Header.Get("RateLimit"), `"month";r=%d;t=%d, "image-analysis-month";r=%d;t=%d`, &left, &in, &imagesLeft, &imagesIn); err != nil {
		t.Errorf("RateLimit: %q: %v", res.Header.Get("RateLimit"), err)
	}
	if left != 99 || imagesLeft != 19 || in != imagesIn || in <= 0 || in > int(end.Sub(now).Seconds())+1 {
		t.Errorf("RateLimit: %q", res.Header.Get("RateLimit"))
	}
	if id := res.Header.Values("X-Request-Id"); len(id) != 1 || len(id[0]) < 16 || strings.Contains(id[0], " ") {
		t.Errorf("X-Request-Id: %q", id)
	}
	if sent := r.requests()[0].Header.Get("X-Request-Id"); sent != res.Header.Get("X-Request-Id") {
		t.Errorf("the upstream got the request id %q, the client %q", sent, res.Header.Get("X-Request-Id"))
	}

	res = r.do(token("u", "enterprise"), "POST", "/api/analyze", nil)
	if got := res.Header.Get("X-Usage"); got != "2/unlimited" {
		t.Errorf("without limits X-Usage is %q, want 2/unlimited", got)
	}
	for _, name := range []string{"RateLimit", "RateLimit-Policy", "X-RateLimit-Limit"} {
		if got := res.Header.Values(name); got != nil {
			t.Errorf("without limits %s is %q", name, got)
		}
	}
}

func TestImageAnalysisCountsTwice(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "")
	for range 20 {
		if res := r.do(tok, "POST", "/api/image-analysis", nil); res.StatusCode != 200 {
			t.Fatalf("%s: %s", res.Status, res.body)
		}
	}
	res := r.do(tok, "POST", "/api/image-analysis", nil)
	if res.StatusCode != 429 || res.Header.Get("X-Usage") != "20/100" || res.Header.Get("X-RateLimit-Limit") != "20" {
		t.Errorf("the 21st image: %s, X-Usage %q, X-RateLimit-Limit %q", res.Status, res.Header.Get("X-Usage"), res.Header.Get("X-RateLimit-Limit"))
	}
	r.do(tok, "POST", "/api/analyze", nil)
	u := r.usage("u", "")
	if image := u.Endpoints["image-analysis"]; u.Used != 21 || image.Used != 20 || u.Endpoints["analyze"].Used != 1 || *image.Allowed || !u.Allowed {
		t.Errorf("usage: %+v", u)
	}
}

func TestOverQuota(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "one")
	r.do(tok, "POST", "/api/analyze", nil)
	res := r.do(tok, "POST", "/api/analyze", strings.NewReader("text"))
	if res.StatusCode != 429 || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	var p struct {
		Type, Title, Endpoint string
		Status                int
		Violated              []string    `json:"violated-policies"`
		Usage                 quota.Usage `json:"usage"`
		Upgrade               string      `json:"upgrade_url"`
	}
	if err := json.Unmarshal([]byte(res.body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Type != "https://iana.org/assignments/http-problem-types#quota-exceeded" || p.Status != 429 || p.Endpoint != "analyze" ||
		len(p.Violated) != 1 || p.Violated[0] != "month" || p.Usage.Used != 1 || *p.Usage.Limit != 1 || p.Usage.Status != quota.StatusBlocked ||
		p.Usage.Allowed || p.Usage.User != "u" || p.Upgrade != "https://example.com/pricing" {
		t.Errorf("problem: %s", res.body)
	}
	retry, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	now := time.Now().UTC()
	left := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Sub(now)
	if retry < int(left.Seconds()) || retry > int(left.Seconds())+60 {
		t.Errorf("Retry-After is %d s, the month has %v left", retry, left)
	}
	if n := len(r.requests()); n != 1 {
		t.Errorf("%d requests reached the upstream, want 1", n)
	}
	r.want("u", "one", 1)
}

// When only requests in flight hold the last units it is worth asking again soon.
func TestHeldUnitsRefuseForASecond(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}})
	tok := token("u", "one")
	done := make(chan reply)
	go func() {
		res, _ := r.try(tok, "POST", "/api/analyze", nil)
		done <- res
	}()
	<-arrived
	res := r.do(tok, "POST", "/api/analyze", nil)
	if res.StatusCode != 429 || res.Header.Get("Retry-After") != "1" || res.Header.Get("X-Usage") != "0/1" {
		t.Errorf("%s, Retry-After %q, X-Usage %q", res.Status, res.Header.Get("Retry-After"), res.Header.Get("X-Usage"))
	}
	if u := r.usage("u", "one"); u.InFlight != 1 || u.Used != 0 || *u.Remaining != 1 || u.Allowed {
		t.Errorf("usage while one is running: %+v", u)
	}
	close(release)
	if first := <-done; first.StatusCode != 200 {
		t.Errorf("the running request got %s", first.Status)
	}
}

// A client may announce a body and hold it back: it gets its answer all the same.
func TestRefusedWithoutReadingTheBody(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "one")
	r.do(tok, "POST", "/api/analyze", nil)
	for name, request := range map[string]string{
		"expecting 100": "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + tok + "\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
		"held back":     "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + tok + "\r\nContent-Length: 1000\r\n\r\nhalf of",
		"chunked":       "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + tok + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
		"no token":      "POST /api/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf of",
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.dial()
			io.WriteString(conn, request)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := 429
			if name == "no token" {
				want = 401
			}
			if body, err := io.ReadAll(res.Body); res.StatusCode != want || err != nil || !json.Valid(body) || !res.Close {
				t.Errorf("%s, closing %v, error %v: %s", res.Status, res.Close, err, body)
			}
		})
	}
	if n := len(r.requests()); n != 1 {
		t.Errorf("%d requests reached the upstream, want 1", n)
	}
}

// dial opens a raw connection to the gateway. A read that waits for 30 s fails.
func (r *testGateway) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.gateway.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func TestUpstreamFails(t *testing.T) {
	for name, c := range map[string]struct {
		upstream http.HandlerFunc
		timeout  time.Duration
		status   int
	}{
		"cuts the connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, 502},
		"never answers": {func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // net/http notices a client that goes only then
			<-r.Context().Done()
		}, 50 * time.Millisecond, 504},
		"sends no HTTP": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "220 smtp.example.com\r\n")
			conn.Close()
		}, 0, 502},
		"switches protocols unasked": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			conn.Close()
		}, 0, 502},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{upstream: c.upstream, timeout: c.timeout})
			res := r.do(token("u", ""), "POST", "/api/analyze", strings.NewReader("text"))
			if res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("X-Usage") != "0/100" {
				t.Errorf("%s, %s, X-Usage %q: %s", res.Status, res.Header.Get("Content-Type"), res.Header.Get("X-Usage"), res.body)
			}
			if strings.Contains(res.body, r.target.Host) {
				t.Errorf("the answer names the upstream: %s", res.body)
			}
			r.want("u", "", 0)
		})
	}
}

func TestUpstreamDown(t *testing.T) {
	r := newTestGateway(t, setup{})
	r.target.Host = testkit.FreeAddress(t)
	if res := r.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 502 {
		t.Errorf("%s: %s", res.Status, res.body)
	}
	r.want("u", "", 0)
}

// A body that breaks off behind a 2xx is counted: the model has been paid.
func TestBodyBreaksOff(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half of it")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}})
	if _, err := r.try(token("u", ""), "POST", "/api/analyze", nil); err == nil {
		t.Error("the client was not told that the body broke off")
	}
	r.want("u", "", 1)
}

func TestClientHangsUp(t *testing.T) {
	arrived, gone := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		close(gone)
	}})
	conn := r.dial()
	io.WriteString(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token("u", "")+"\r\nContent-Length: 0\r\n\r\n")
	<-arrived
	conn.Close()
	<-gone // the upstream is told, so that it can stop its model
	testkit.Eventually(t, "the unit is given back", func() bool { return r.usage("u", "").InFlight == 0 })
	r.want("u", "", 0)
}

func TestInformationalResponsesAndTrailers(t *testing.T) {
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.Header().Set("X-Sum", "42")
		},
		change: func(o *proxy.Options) { o.CORS = &proxy.CORS{AllowedOrigins: []string{"https://app.example.com"}} },
	})
	res := r.do(token("u", ""), "POST", "/api/analyze", nil, "Origin: https://app.example.com")
	if res.StatusCode != 200 || res.body != "body" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%s, trailer %q: %s", res.Status, res.Trailer, res.body)
	}
	// ReverseProxy clears the header after a 1xx, also what was there before.
	if res.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || res.Header.Get("X-Request-Id") == "" {
		t.Errorf("after 103 the gateway's own fields are missing: %v", res.Header)
	}
	r.want("u", "", 1)
}

func TestBodyTooLarge(t *testing.T) {
	r := newTestGateway(t, setup{maxBody: 1000, upstream: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}})
	tok := token("u", "")
	post := func(n int, chunked bool) reply {
		var body io.Reader = bytes.NewReader(make([]byte, n))
		if chunked {
			body = io.MultiReader(body) // hides its length
		}
		return r.do(tok, "POST", "/api/analyze", body)
	}
	for _, chunked := range []bool{false, true} {
		if res := post(1000, chunked); res.StatusCode != 200 {
			t.Errorf("1000 bytes, chunked %v: %s", chunked, res.Status)
		}
		if res := post(1001, chunked); res.StatusCode != 413 || !strings.Contains(res.body, "1000 bytes") {
			t.Errorf("1001 bytes, chunked %v: %s %s", chunked, res.Status, res.body)
		}
	}
	r.want("u", "", 2)
	calls, sent := r.store.calls.Load(), len(r.requests())
	post(1001, false)
	if r.store.calls.Load() != calls || len(r.requests()) != sent {
		t.Error("a body that is too large by its Content-Length cost a call of the store or the upstream")
	}
}

// An upload that outlasts the timeout ends it, and holds nothing after.
func TestSlowUpload(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 100 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}})
	conn := r.dial()
	io.WriteString(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token("u", "")+"\r\nContent-Length: 1000000\r\n\r\nthe first bytes")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 504 {
		t.Fatalf("%v, error %v; want 504", res, err)
	}
	r.want("u", "", 0)
}

// What the upstream sends arrives while it is still sending, and so does what
// the client sends.
func TestStreams(t *testing.T) {
	got := make(chan string)
	more := make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			got <- lines.Text()
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-more
		}
	}})
	read, write := io.Pipe()
	req, _ := http.NewRequest("POST", r.gateway.URL+"/api/analyze", read)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	responded := make(chan *http.Response)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
		}
		responded <- res
	}()
	for _, line := range []string{"one", "two", "three"} {
		io.WriteString(write, line+"\n")
		if g := <-got; g != line {
			t.Errorf("the upstream got %q, want %q", g, line)
		}
	}
	write.Close()
	res := <-responded
	defer res.Body.Close()
	r.want("u", "", 1) // before the body has ended
	body := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := body.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
			t.Errorf("event %d is %q, error %v", i, line, err)
		}
		body.ReadString('\n')
		more <- true
	}
}

// An upstream may answer while it reads; what it says arrives then, not after the
// upload.
func TestEarlyAnswer(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "got %s\n", lines.Text())
			w.(http.Flusher).Flush()
		}
	}})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n", token("u", ""))
	read := bufio.NewReader(conn)
	res, err := http.ReadResponse(read, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	body := bufio.NewReader(res.Body)
	for _, line := range []string{"one", "two", "three"} {
		if got, err := body.ReadString('\n'); got != "got "+line+"\n" {
			t.Fatalf("%q, error %v", got, err)
		}
		switch line {
		case "one":
			io.WriteString(conn, "4\r\ntwo\n\r\n")
		case "two":
			io.WriteString(conn, "6\r\nthree\n\r\n")
		default:
			io.WriteString(conn, "0\r\n\r\n")
		}
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("%q, error %v", rest, err)
	}
	r.want("u", "", 1)
}

// The gateway's own resources do not wait for a body that nobody asked for.
func TestOwnResourcesWithABody(t *testing.T) {
	r := newTestGateway(t, setup{})
	r.handler.SetBounds(time.Minute, time.Minute)
	for line, status := range map[string]int{"POST /usage/track": 200, "GET /usage": 200, "GET /usage/client.js": 200, "GET /usage/stream": 400} {
		conn := r.dial()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\nhalf", line, token("u", ""))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != status || !res.Close {
			t.Errorf("%s: %v, error %v", line, res, err)
		}
	}
}

func TestCallsOfTheStore(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "one")
	for _, c := range []struct {
		method, path string
		calls        int64
	}{
		{"POST", "/api/analyze", 2}, {"POST", "/api/analyze", 1}, // the second is refused
		{"GET", "/usage", 1}, {"POST", "/usage/track", 1},
		{"GET", "/api/status", 0}, {"GET", "/api/health", 0}, {"GET", "/nowhere", 0},
	} {
		before := r.store.calls.Load()
		r.do(tok, c.method, c.path, nil)
		if n := r.store.calls.Load() - before; n != c.calls {
			t.Errorf("%s %s took %d calls of the store, want %d", c.method, c.path, n, c.calls)
		}
	}
}

func TestHEAD(t *testing.T) {
	r := newTestGateway(t, setup{})
	if res := r.do(token("u", ""), "HEAD", "/api/lookup/7", nil); res.StatusCode != 200 || r.requests()[0].Method != "HEAD" {
		t.Errorf("%s", res.Status)
	}
	r.want("u", "", 1)
}

func TestPlanOfTheToken(t *testing.T) {
	r := newTestGateway(t, setup{})
	for claim, want := range map[string]string{"": "free", "one": "one", "no such plan": "free", "enterprise": "enterprise"} {
		if u := r.usage("u", claim); u.Plan != want {
			t.Errorf("claim %q: plan %q, want %q", claim, u.Plan, want)
		}
	}
}

func TestTrackCountsNothing(t *testing.T) {
	r := newTestGateway(t, setup{})
	for range 3 {
		res := r.do(token("u", ""), "POST", "/usage/track", strings.NewReader(`{"endpoint":"analyze"}`))
		if res.StatusCode != 200 || res.Header.Get("Deprecation") != "@1796083200" || !strings.Contains(res.body, `"used":0`) {
			t.Errorf("%s, Deprecation %q: %s", res.Status, res.Header.Get("Deprecation"), res.body)
		}
	}
	if n := len(r.requests()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

func TestStoreDown(t *testing.T) {
	redis := redistest.Start(t)
	open := func(allow bool) proxy.Store {
		remote, err := redisstore.Open(redisstore.Options{URL: redis.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remote.Close() })
		journal, err := guard.OpenJournal(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s, err := guard.New(guard.Options{Remote: remote, Journal: journal, AllowOnFailure: allow, Timeout: 250 * time.Millisecond,
			Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	deny, allow := newTestGateway(t, setup{store: open(false)}), newTestGateway(t, setup{store: open(true)})
	if res := deny.do(token("u", ""), "POST", "/api/analyze", nil); res.Header.Get("X-Usage") != "1/100" {
		t.Errorf("before: %s, %v", res.Status, res.Header)
	}
	redis.Stop()
	res := deny.do(token("u", ""), "POST", "/api/analyze", nil)
	if res.StatusCode != 503 || !strings.Contains(res.body, "#temporary-reduced-capacity") || len(deny.requests()) != 1 {
		t.Errorf("deny: %s: %s", res.Status, res.body)
	}
	if u := deny.usage("u", ""); !u.Stale || u.Used != 1 {
		t.Errorf("usage: %d used, stale %v; want the last known 1, and that it is stale", u.Used, u.Stale)
	}
	if res := deny.do(token("v", ""), "GET", "/usage", nil); res.StatusCode != 503 {
		t.Errorf("usage of one never seen: %s: %s", res.Status, res.body)
	}
	if res := allow.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 200 || len(allow.requests()) != 1 {
		t.Errorf("allow: %s: %s", res.Status, res.body)
	}
	if res := deny.do(token("u", ""), "GET", "/api/status", nil); res.StatusCode != 200 {
		t.Errorf("a route that is not metered: %s", res.Status)
	}
	redis.Start()
	testkit.Eventually(t, "the gateway serves again", func() bool {
		return deny.do(token("u", ""), "POST", "/api/analyze", nil).StatusCode == 200
	})
}

// Who is gone before there is a reservation does not have the store make one.
func TestGoneBeforeReserve(t *testing.T) {
	r := newTestGateway(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, "POST", "/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token("alice", "free"))
	r.gateway.Config.Handler.ServeHTTP(httptest.NewRecorder(), req)
	if n := r.store.calls.Load(); n != 0 || len(r.requests()) != 0 {
		t.Errorf("%d calls of the store, %d of the upstream", n, len(r.requests()))
	}
	r.want("alice", "free", 0)
}
