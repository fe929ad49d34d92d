package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/quota/redisstore/redistest"
)

// A request in flight when the gateway is told to stop gets its answer, and is
// counted; readiness has turned before.
func TestDrain(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	defer upstream.Close()
	dir := t.TempDir()
	gateway := startGateway(t, "embedded:"+dir, upstream.URL)
	if status, body := get(gateway.admin+"/readyz", ""); status != 200 || !strings.Contains(body, `"store":"ok"`) {
		t.Errorf("/readyz before: %d %s", status, body)
	}
	token := testkit.Token("u", "free")
	answered := make(chan string)
	go func() {
		req, _ := http.NewRequest("POST", gateway.url+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		res.Body.Close()
		answered <- res.Status + ", " + res.Header.Get("X-Usage")
	}()
	<-arrived
	gateway.signal(syscall.SIGTERM)
	testkit.EventuallyWithin(t, time.Minute, "/readyz says 503", func() bool { status, _ := get(gateway.admin+"/readyz", ""); return status == 503 })
	testkit.EventuallyWithin(t, time.Minute, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(gateway.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if status, _ := get(gateway.admin+"/livez", ""); status != 200 {
		t.Errorf("/livez while draining: %d", status)
	}
	close(release)
	if got := <-answered; got != "200 OK, 1/100" {
		t.Errorf("the request in flight got %s", got)
	}
	<-gateway.done
	if gateway.code != 0 {
		t.Errorf("exit status %d, want 0", gateway.code)
	}
	again := startGateway(t, "embedded:"+dir, upstream.URL)
	if u := usageOf(t, again, token); u.Used != 1 {
		t.Errorf("after a restart %d are used, want 1", u.Used)
	}
}

func TestSecondSignal(t *testing.T) {
	arrived := make(chan bool, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
	}))
	defer upstream.Close()
	gateway := startGateway(t, "embedded:"+t.TempDir(), upstream.URL)
	go func() {
		req, _ := http.NewRequest("POST", gateway.url+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		http.DefaultClient.Do(req)
	}()
	<-arrived
	gateway.signal(syscall.SIGINT)
	gateway.until(func(text string) bool { return strings.Contains(text, "draining") })
	gateway.signal(syscall.SIGINT)
	<-gateway.done
	if gateway.code != 1 {
		t.Errorf("exit status %d, want 1", gateway.code)
	}
}

// A gateway whose Redis is not there at start runs by its on_failure rule, and
// says what is wrong.
func TestRedisDownAtStart(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t)
	redis.Stop()
	post := func(g *process) int {
		req, _ := http.NewRequest("POST", g.url+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode
	}
	allow := startGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=allow")
	deny := startGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=deny")
	for _, g := range []*process{allow, deny} {
		g.until(func(text string) bool { return strings.Contains(text, "the store cannot be reached") })
		if status, body := get(g.admin+"/readyz", ""); status != 200 || !strings.Contains(body, "connection refused") {
			t.Errorf("/readyz: %d %s", status, body)
		}
	}
	if got := post(allow); got != 200 {
		t.Errorf("allow: %d, want 200", got)
	}
	if got := post(deny); got != 503 {
		t.Errorf("deny: %d, want 503", got)
	}
	redis.Start()
	for _, g := range []*process{allow, deny} {
		testkit.EventuallyWithin(t, time.Minute, "the gateway counts again", func() bool { return post(g) == 200 && strings.Contains(readyz(g), `"store":"ok"`) })
	}
	if u := usageOf(t, deny, testkit.Token("u", "free")); u.Used == 0 {
		t.Error("nothing was counted after Redis came back")
	}
}

func readyz(g *process) string { _, body := get(g.admin+"/readyz", ""); return body }

func TestEmbeddedStoreInUse(t *testing.T) {
	dir := t.TempDir()
	first := startGateway(t, "embedded:"+dir, "http://127.0.0.1:9")
	file := first.cmd.Args[len(first.cmd.Args)-1]
	second := start(t, []string{"STORE=embedded:" + dir, "UPSTREAM=http://127.0.0.1:9"}, "serve", "-config", file)
	<-second.done
	if text := second.output.String(); second.code != 1 || !strings.Contains(text, "in use") {
		t.Errorf("a second gateway on the same folder: exit status %d:\n%s", second.code, text)
	}
}

func TestMetrics(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	g := startGateway(t, "embedded:"+t.TempDir(), upstream.URL)
	token := testkit.Token("u-secret", "free")
	for i := range 3 {
		req, _ := http.NewRequest("POST", fmt.Sprint(g.url, "/api/analyze?", i), nil)
		req.Header.Set("Authorization", "Bearer "+token)
		if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
	}
	get(g.url+"/nowhere", token)
	// The last request is noted after its response has gone out.
	var body string
	testkit.EventuallyWithin(t, time.Minute, "all requests are in the metrics", func() bool {
		_, body = get(g.admin+"/metrics", "")
		return strings.Contains(body, `metergate_requests_total{code="4xx",method="GET",route="none"} 1`)
	})
	for _, line := range []string{
		`metergate_requests_total{code="2xx",method="POST",route="POST /api/analyze"} 3`,
		`metergate_decisions_total{outcome="admitted",plan="free"} 3`,
		`metergate_counted_total{endpoint="analyze"} 3`,
		`metergate_store_duration_seconds_count{operation="reserve"} 3`,
		`metergate_requests_in_flight 0`,
		`metergate_build_info{`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
	if strings.Contains(body, "u-secret") {
		t.Error("/metrics names a user")
	}
	if status, _ := get(g.url+"/metrics", token); status != 404 {
		t.Errorf("/metrics on the public listener: %d", status)
	}
}

// What can cost counts in how Redis is set up is said at the start.
func TestWarningsAtStart(t *testing.T) {
	careless := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	g := startGateway(t, careless.URL(), "http://127.0.0.1:9")
	for _, want := range []string{"Redis keeps nothing on disk", "maxmemory-policy allkeys-lru"} {
		g.until(func(text string) bool { return strings.Contains(text, want) })
	}
	careful := redistest.Start(t, "--appendonly", "yes")
	g = startGateway(t, careful.URL(), "http://127.0.0.1:9")
	if text := g.output.String(); strings.Contains(text, `"WARN"`) {
		t.Errorf("it warns of a Redis that is set up well:\n%s", text)
	}
}

// A journal that cannot be written is found out at the start, not in an outage.
func TestJournalInUse(t *testing.T) {
	redis := redistest.Start(t)
	journal := "JOURNAL=" + t.TempDir()
	first := startGateway(t, redis.URL(), "http://127.0.0.1:9", journal)
	file := first.cmd.Args[len(first.cmd.Args)-1]
	second := start(t, []string{"STORE=" + redis.URL(), "UPSTREAM=http://127.0.0.1:9", journal}, "serve", "-config", file)
	<-second.done
	if text := second.output.String(); second.code != 1 || !strings.Contains(text, "in use") {
		t.Errorf("a second gateway with the same journal: exit status %d:\n%s", second.code, text)
	}
	third := start(t, []string{"STORE=" + redis.URL(), "UPSTREAM=http://127.0.0.1:9", "JOURNAL=" + file}, "serve", "-config", file)
	<-third.done
	if text := third.output.String(); third.code != 1 || !strings.Contains(text, "opening the journal") || !strings.Contains(text, file) {
		t.Errorf("a journal that is no folder: exit status %d:\n%s", third.code, text)
	}
}

// An outage from outside: 503 or an answer by the last known usage, stale usage, a
// backlog in the metrics, and after it exact numbers.
func TestOutage(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	allow := startGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=allow")
	deny := startGateway(t, redis.URL(), upstream.URL, "ON_FAILURE=deny")
	token := testkit.Token("u", "free")
	post := func(g *process) *http.Response {
		req, _ := http.NewRequest("POST", g.url+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	post(allow)
	post(deny)
	redis.Kill()
	for i := range 10 {
		if res := post(allow); res.StatusCode != 200 || res.Header.Get("X-Usage") != fmt.Sprintf("%d/100", 2+i) {
			// It had its own answer last, when one was used.
			t.Errorf("allow: %s, X-Usage %s", res.Status, res.Header.Get("X-Usage"))
		}
		if res := post(deny); res.StatusCode != 503 {
			t.Errorf("deny: %s", res.Status)
		}
	}
	if u := usageOf(t, allow, token); !u.Stale || u.Used != 11 {
		t.Errorf("usage in an outage: %d, stale %v", u.Used, u.Stale)
	}
	if _, body := get(allow.admin+"/metrics", ""); !strings.Contains(body, "metergate_journal_backlog 10") || !strings.Contains(body, "metergate_store_breakers_open 1") {
		t.Errorf("metrics do not show the outage:\n%s", body)
	}
	// Killed in the outage; its journal is counted by the next one.
	allow.signal(syscall.SIGKILL)
	<-allow.done
	redis.Start()
	again := start(t, allow.cmd.Env, allow.cmd.Args[1:]...)
	again.serving()
	testkit.EventuallyWithin(t, time.Minute, "all is counted", func() bool {
		u := usageOf(t, again, token)
		return u.Used == 12 && u.InFlight == 0 && !u.Stale
	})
	testkit.EventuallyWithin(t, time.Minute, "the other one serves", func() bool { return post(deny).StatusCode == 200 })
	if u := usageOf(t, again, token); u.Used != 13 {
		t.Errorf("%d used, want 13", u.Used)
	}
}

// A client that sends its request's fields one byte at a time, for ever, is cut off.
func TestSlowFields(t *testing.T) {
	t.Parallel() // it takes the ten seconds that such a client has
	gateway := startGateway(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	conn, err := net.Dial("tcp", strings.TrimPrefix(gateway.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	closed := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		closed <- err
	}()
	io.WriteString(conn, "GET /usage HTTP/1.1\r\nX-Slow: ")
	for {
		select {
		case err := <-closed:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open after a minute")
			}
			return
		case <-time.After(50 * time.Millisecond):
			io.WriteString(conn, "a")
		}
	}
}
