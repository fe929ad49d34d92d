package counting

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A plan allows five attempts a minute, and the API behind it fails. Exactly five
// requests reach the API, one after another or many at once through two gateways, and
// nothing is counted or held.
func TestAttemptsAdmitExactlyTheirNumber(t *testing.T) {
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent.Add(1)
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(500)
	}))
	defer upstream.Close()
	redis := redistest.Start(t)
	gateways := []*gatewaytest.Process{gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient), gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient)}
	client := gatewaytest.NewClient(t)
	try := func(i int, token string) (status, retry int) {
		req, _ := http.NewRequest("POST", gateways[i%2].URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		retry, _ = strconv.Atoi(res.Header.Get("Retry-After"))
		return res.StatusCode, retry
	}
	try(0, testkit.Token("somebody", "enterprise")) // Redis has the scripts from now on
	for name, each := range map[string]func(func(i int)){
		"one by one": func(f func(int)) {
			for i := range 8 {
				f(i)
			}
		},
		"50 at once": func(f func(int)) {
			var wait sync.WaitGroup
			for i := range 50 {
				wait.Go(func() { f(i) })
			}
			wait.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			token := testkit.Token("user "+name, "tries")
			calls := redis.ScriptCalls()
			var failed, throttled atomic.Int64
			began := time.Now()
			each(func(i int) {
				switch status, retry := try(i, token); {
				case status == 500:
					failed.Add(1)
				case status == 429 && retry >= 1 && retry <= 12:
					throttled.Add(1)
				default:
					t.Errorf("status %d, Retry-After %d", status, retry)
				}
			})
			took := time.Since(began)
			// One call to reserve, which also takes the attempt, and one call to release.
			if got, want := int64(redis.ScriptCalls()-calls), failed.Load()*2+throttled.Load(); got != want {
				t.Errorf("%d calls to Redis, want %d", got, want)
			}
			// One attempt comes back every 12 seconds. A slow machine may get it.
			most := 5 + int64(took/(12*time.Second))
			if n := failed.Load(); n != sent.Load() || n < 5 || n > most || throttled.Load() == 0 {
				t.Errorf("%d requests got the API's 500 and %d a 429; %d reached the API in %v, want 5", n, throttled.Load(), sent.Load(), took)
			}
			for _, g := range gateways {
				if u := gatewaytest.Usage(t, g, token); u.Used != 0 || u.InFlight != 0 || !u.Allowed {
					t.Errorf("usage %+v", u)
				}
			}
		})
	}
}
