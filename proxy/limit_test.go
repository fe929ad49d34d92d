package proxy_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/quota"
)

func TestEndpointLimitCountsTowardsBothLimits(t *testing.T) {
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

func TestOverLimitAnswers429(t *testing.T) {
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

// TestEverTellsNoTimes: a limit that never renews has no times in any header. Its 429 tells
// clients not to try again, unless only running requests hold the rest.
func TestEverTellsNoTimes(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "hold" {
				arrived <- true
				<-release
			}
		},
		change: func(o *proxy.Options) {
			o.Plans["prepaid"] = newPlan("prepaid", quota.Limit{Amount: 2, Period: quota.Ever}, quota.Limit{Amount: 60, Period: quota.Day})
		},
	})
	tok := token("u", "prepaid")
	want := func(res reply, status int, headers map[string]string) {
		t.Helper()
		if res.StatusCode != status {
			t.Fatalf("%s: %s", res.Status, res.body)
		}
		for name, want := range headers {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for name, want := range map[string]string{"RateLimit-Policy": `"ever";q=2, "day";q=60;w=86400`, "RateLimit": `"ever";r=`} {
			if got := res.Header.Get(name); !strings.HasPrefix(got, want) || strings.Count(got, ";t=") > 1 {
				t.Errorf("%s: %q, want %s...", name, got, want)
			}
		}
	}
	want(r.do(tok, "POST", "/api/analyze", nil), 200, map[string]string{"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "", "X-Usage": "1/2"})
	done := make(chan reply)
	go func() { done <- r.do(tok, "POST", "/api/analyze?hold", nil) }()
	<-arrived
	want(r.do(tok, "POST", "/api/analyze", nil), 429, map[string]string{"Retry-After": "1", "X-Should-Retry": "", "X-RateLimit-Reset": ""})
	release <- true
	want(<-done, 200, nil)
	res := r.do(tok, "POST", "/api/analyze", nil)
	want(res, 429, map[string]string{"Retry-After": "", "X-Should-Retry": "false", "X-RateLimit-Reset": "", "X-RateLimit-Remaining": "0"})
	if !strings.Contains(res.body, `"detail":"You have used your 2 requests. They do not renew."`) || !strings.Contains(res.body, `"period":{"per":"ever","start":null,"end":null}`) {
		t.Errorf("problem: %s", res.body)
	}
}

// TestHeldUnitsRefuseForOneSecond: if only requests in flight hold the last units, it is
// worth trying again soon.
func TestHeldUnitsRefuseForOneSecond(t *testing.T) {
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
	if want := `"detail":"You have 1 request per month on the one plan: 0 are used, and running requests hold 1. `; !strings.Contains(res.body, want) {
		t.Errorf("the 429 is %s, want %s", res.body, want)
	}
	if u := r.usage("u", "one"); u.InFlight != 1 || u.Used != 0 || *u.Remaining != 1 || u.Allowed {
		t.Errorf("usage while one is running: %+v", u)
	}
	close(release)
	if first := <-done; first.StatusCode != 200 {
		t.Errorf("the running request got %s", first.Status)
	}
}

// TestRefusalDoesNotWaitForBody: a client may announce a body and hold it back: it is
// answered anyway.
func TestRefusalDoesNotWaitForBody(t *testing.T) {
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

// TestRefusalsHaveTheDocumentedHeaders has each row of docs/http.md about what a plan refuses, and about
// which limits the headers are.
func TestRefusalsHaveTheDocumentedHeaders(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	limit := func(amount int64, period quota.Period) quota.Limit {
		return quota.Limit{Amount: amount, Period: period}
	}
	soft, analyze := limit(1, quota.Year), limit(1, quota.Year)
	soft.Soft, analyze.Endpoint = true, "analyze"
	g := newTestGateway(t, setup{
		upstream: func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "hold" {
				arrived <- true
				<-release
			}
		},
		change: func(o *proxy.Options) {
			for name, p := range map[string]quota.PlanOptions{
				"year": {Limits: []quota.Limit{limit(1, quota.Year)}}, "ever": {Limits: []quota.Limit{limit(1, quota.Ever)}},
				"nothing": {Limits: []quota.Limit{limit(5, quota.Month), {Period: quota.Month, Endpoint: "analyze"}}},
				"soft":    {Limits: []quota.Limit{soft}}, "endpoint": {Limits: []quota.Limit{soft, analyze}}, "unlimited": {},
				"crowded":     {Concurrent: quota.ConcurrencyLimit{Requests: 1}},
				"crowdedEver": {Limits: []quota.Limit{limit(5, quota.Ever)}, Concurrent: quota.ConcurrencyLimit{Requests: 1}},
				"tries":       {Limits: []quota.Limit{limit(5, quota.Month)}, Attempts: quota.AttemptLimit{Requests: 1, Per: time.Hour}},
			} {
				p.Name, p.Endpoints, p.WarnAt = name, endpoints, 80
				plan, err := quota.NewPlan(p)
				if err != nil {
					t.Fatal(err)
				}
				o.Plans[name] = plan
			}
		},
	})
	const some = "*" // any value
	for _, c := range []struct {
		plan   string
		first  string // query of the request before this one; -: there is none
		status int
		text   string // in the problem document
		// In this order: Retry-After, X-Should-Retry, X-RateLimit-Limit, -Remaining, -Reset, RateLimit,
		// RateLimit-Policy.
		headers [7]string
	}{
		{"year", "-", 200, "", [7]string{"", "", "1", "0", some, some, some}},
		{"year", "", 429, `#quota-exceeded"`, [7]string{some, "false", "1", "0", some, some, some}},
		{"year", "hold", 429, `#quota-exceeded"`, [7]string{"1", "", "1", "1", some, some, some}},
		{"ever", "-", 200, "", [7]string{"", "", "1", "0", "", `"ever";r=0`, `"ever";q=1`}},
		{"ever", "", 429, `#quota-exceeded"`, [7]string{"", "false", "1", "0", "", `"ever";r=0`, `"ever";q=1`}},
		{"ever", "hold", 429, `#quota-exceeded"`, [7]string{"1", "", "1", "1", "", `"ever";r=1`, `"ever";q=1`}},
		{"nothing", "-", 403, `"reason":"not_in_plan"`, [7]string{"", "", "5", "5", some, some, some}},
		{"soft", "", 200, "", [7]string{}},
		{"endpoint", "", 429, `#quota-exceeded"`, [7]string{some, "false", "1", "0", some, some, some}},
		{"endpoint", "-", 200, "", [7]string{"", "", "", "", "", some, some}},
		{"unlimited", "", 200, "", [7]string{}},
		{"crowded", "-", 200, "", [7]string{"", "", "", "", "", "", `"concurrent";q=1;qu="concurrent-requests"`}},
		{"crowded", "hold", 429, `"reason":"concurrency"`, [7]string{"1", "", "", "", "", "", `"concurrent";q=1;qu="concurrent-requests"`}},
		{"crowdedEver", "hold", 429, `"reason":"concurrency"`, [7]string{"1", "", "5", "5", "", `"ever";r=5`, `"ever";q=5, "concurrent";q=1;qu="concurrent-requests"`}},
		{"tries", "", 429, `#abnormal-usage-detected"`, [7]string{some, "false", "5", "4", some, some, some}},
	} {
		what := c.plan + " after " + c.first
		tok := token("user-"+c.plan+c.first, c.plan)
		done := make(chan reply, 1)
		switch c.first {
		case "-":
		case "hold":
			go func() { done <- g.do(tok, "POST", "/api/analyze?hold", nil) }()
			<-arrived
		default:
			if res := g.do(tok, "POST", "/api/analyze", nil); res.StatusCode != 200 {
				t.Fatalf("%s: the first request: %s", what, res.Status)
			}
		}
		res := g.do(tok, "POST", "/api/analyze", nil)
		if c.first == "hold" {
			release <- true
			<-done
		}
		if res.StatusCode != c.status || !strings.Contains(res.body, c.text) {
			t.Errorf("%s: %s: %s", what, res.Status, res.body)
		}
		for i, name := range []string{"Retry-After", "X-Should-Retry", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"} {
			if got, want := res.Header.Get(name), c.headers[i]; got != want && (want != some || got == "") {
				t.Errorf("%s: %s is %q, want %q", what, name, got, want)
			}
		}
	}
}
