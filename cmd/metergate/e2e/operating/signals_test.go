package operating

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// When the gateway is told to stop, a request in flight still gets its response and is
// counted. The gateway stops being ready before that.
func TestDrainAnswersRequestInFlight(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	defer upstream.Close()
	dir := t.TempDir()
	gateway := gatewaytest.StartGateway(t, "embedded:"+dir, upstream.URL)
	if status, body := gatewaytest.Get(gateway.Admin+"/readyz", ""); status != 200 || !strings.Contains(body, `"store":"ok"`) {
		t.Errorf("/readyz before: %d %s", status, body)
	}
	token := testkit.Token("u", "free")
	answered := make(chan string)
	go func() {
		req, _ := http.NewRequest("POST", gateway.URL+"/api/analyze", nil)
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
	gateway.Signal(syscall.SIGTERM)
	testkit.EventuallyWithin(t, time.Minute, "/readyz says 503", func() bool { status, _ := gatewaytest.Get(gateway.Admin+"/readyz", ""); return status == 503 })
	testkit.EventuallyWithin(t, time.Minute, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(gateway.URL, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if status, _ := gatewaytest.Get(gateway.Admin+"/livez", ""); status != 200 {
		t.Errorf("/livez while draining: %d", status)
	}
	close(release)
	if got := <-answered; got != "200 OK, 1/100" {
		t.Errorf("the request in flight got %s", got)
	}
	if gateway.Wait() != 0 {
		t.Errorf("exit status %d, want 0", gateway.Wait())
	}
	again := gatewaytest.StartGateway(t, "embedded:"+dir, upstream.URL)
	if u := gatewaytest.Usage(t, again, token); u.Used != 1 {
		t.Errorf("after a restart the usage is %d, want 1", u.Used)
	}
}

// A second signal ends the gateway at once, even while a request is in flight.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	arrived := make(chan bool, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
	}))
	defer upstream.Close()
	gateway := gatewaytest.StartGateway(t, "embedded:"+t.TempDir(), upstream.URL)
	go func() {
		req, _ := http.NewRequest("POST", gateway.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		http.DefaultClient.Do(req)
	}()
	<-arrived
	gateway.Signal(syscall.SIGINT)
	gateway.WaitForText("draining")
	gateway.Signal(syscall.SIGINT)
	if gateway.Wait() != 1 {
		t.Errorf("exit status %d, want 1", gateway.Wait())
	}
}

// The metrics count requests, decisions and calls of the store, and name no user.
func TestMetricsShowRequestsButNoUsers(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	g := gatewaytest.StartGateway(t, "embedded:"+t.TempDir(), upstream.URL)
	token := testkit.Token("u-secret", "free")
	for i := range 3 {
		req, _ := http.NewRequest("POST", fmt.Sprint(g.URL, "/api/analyze?", i), nil)
		req.Header.Set("Authorization", "Bearer "+token)
		if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
	}
	gatewaytest.Get(g.URL+"/nowhere", token)
	// The gateway records the last request after it has sent the response.
	var body string
	testkit.EventuallyWithin(t, time.Minute, "all requests are in the metrics", func() bool {
		_, body = gatewaytest.Get(g.Admin+"/metrics", "")
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
	if status, _ := gatewaytest.Get(g.URL+"/metrics", token); status != 404 {
		t.Errorf("/metrics on the public listener: status %d, want 404", status)
	}
}

// The log at the start warns of settings of Redis that can lose counts.
func TestStartWarnsOfRedisSettings(t *testing.T) {
	careless := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	g := gatewaytest.StartGateway(t, careless.URL(), "http://127.0.0.1:9", gatewaytest.Patient)
	for _, want := range []string{"Redis keeps nothing on disk", "maxmemory-policy allkeys-lru"} {
		g.WaitForText(want)
	}
	careful := redistest.Start(t, "--appendonly", "yes")
	g = gatewaytest.StartGateway(t, careful.URL(), "http://127.0.0.1:9", gatewaytest.Patient)
	if text := g.Output(); strings.Contains(text, `"WARN"`) {
		t.Errorf("the log warns of a Redis with safe settings:\n%s", text)
	}
}
