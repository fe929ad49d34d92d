package counting

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A busyAPI takes its time for a request, and records how many run at once. A request with the query
// "hold" runs until the test lets it go.
type busyAPI struct {
	*httptest.Server
	sent, running, most atomic.Int64
	letGo               chan struct{}
}

func startBusyAPI(t *testing.T) *busyAPI {
	a := &busyAPI{letGo: make(chan struct{})}
	a.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		a.sent.Add(1)
		if r.URL.RawQuery == "hold" {
			select {
			case <-a.letGo:
			case <-r.Context().Done():
			}
			return
		}
		n := a.running.Add(1)
		defer a.running.Add(-1)
		for old := a.most.Load(); n > old && !a.most.CompareAndSwap(old, n); old = a.most.Load() {
		}
		time.Sleep(20 * time.Millisecond) // an API that takes its time
	}))
	t.Cleanup(a.Close)
	return a
}

// Three requests may run at once. Of twelve on two gateways never more than three reach the upstream
// at a time, and all pass. The places of a gateway that was killed are free within 30 seconds.
func TestConcurrencyHoldsAcrossGateways(t *testing.T) {
	onEachRedis(t, func(t *testing.T, redisURL string, _ bool) {
		t.Parallel()
		testConcurrencyHoldsAcrossGateways(t, redisURL)
	})
}

func testConcurrencyHoldsAcrossGateways(t *testing.T, redisURL string) {
	upstream := startBusyAPI(t)
	dies := gatewaytest.StartWithUnits(t, redisURL, upstream.URL, gatewaytest.Patient)
	stays := gatewaytest.StartWithUnits(t, redisURL, upstream.URL, gatewaytest.Patient)
	client := gatewaytest.NewClient(t)
	token := testkit.Token("u", "three")
	callAll := func(urls ...string) {
		t.Helper()
		var wait sync.WaitGroup
		for i := range 12 {
			wait.Go(func() {
				if status, _ := callForUnits(t, client, urls[i%len(urls)]+"/api/image-analysis", token); status != 200 {
					t.Errorf("status %d", status)
				}
			})
		}
		wait.Wait()
		if n := upstream.most.Load(); n > 3 || n == 0 {
			t.Errorf("%d ran at once, want 1 to 3", n)
		}
	}
	callAll(dies.URL, stays.URL)

	var held sync.WaitGroup
	for range 3 {
		held.Go(func() { callForUnits(t, client, dies.URL+"/api/image-analysis?hold", token) })
	}
	testkit.Eventually(t, "three requests are held", func() bool { return gatewaytest.Usage(t, stays, token).InFlight == 3 })
	dies.Kill()
	held.Wait()
	testkit.EventuallyWithin(t, time.Minute, "the places are free", func() bool {
		status, _ := callForUnits(t, client, stays.URL+"/api/image-analysis", token) // waits up to 30 s
		return status == 200
	})
	callAll(stays.URL)
}

// Without a wait, exactly as many of those that come at once on two gateways pass as may run at once.
func TestConcurrencyWithoutWait(t *testing.T) {
	upstream, redis := startBusyAPI(t), redistest.Start(t)
	gateways := []*gatewaytest.Process{gatewaytest.StartWithUnits(t, redis.URL(), upstream.URL, gatewaytest.Patient), gatewaytest.StartWithUnits(t, redis.URL(), upstream.URL, gatewaytest.Patient)}
	client := gatewaytest.NewClient(t)
	token := testkit.Token("u", "three-at-once")
	var passed, refused atomic.Int64
	var wait sync.WaitGroup
	for i := range 12 {
		wait.Go(func() {
			switch status, cost := callForUnits(t, client, gateways[i%2].URL+"/api/image-analysis?hold", token); {
			case status == 200 && cost == 5:
				passed.Add(1)
			case status == 429 && cost == 0:
				refused.Add(1)
			default:
				t.Errorf("status %d, charged %d", status, cost)
			}
		})
	}
	testkit.Eventually(t, "nine are refused", func() bool { return refused.Load() == 9 })
	close(upstream.letGo)
	wait.Wait()
	if passed.Load() != 3 || refused.Load() != 9 || upstream.sent.Load() != 3 {
		t.Errorf("%d passed, %d were refused, %d reached the upstream; want 3, 9, 3", passed.Load(), refused.Load(), upstream.sent.Load())
	}
	wantNothingHeld(t, redis.Addr, "u")
}

// One after another, requests never lack a place, however soon they follow the response before.
func TestSequenceNeverLacksPlace(t *testing.T) {
	upstream, redis := gatewaytest.StartUpstream(t, "ok"), redistest.Start(t)
	gateway := gatewaytest.StartWithUnits(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	client := gatewaytest.NewClient(t)
	token := testkit.Token("u", "one-at-once")
	for i := range 500 {
		if status := gatewaytest.Post(client, gateway.URL+"/api/image-analysis", token); status != 200 {
			t.Fatalf("request %d: status %d", i, status)
		}
	}
}

// A client that waits for a place and hangs up has reached nobody and leaves nothing behind.
func TestWaitingClientHangsUp(t *testing.T) {
	upstream, redis := startBusyAPI(t), redistest.Start(t)
	gateway := gatewaytest.StartWithUnits(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	client := gatewaytest.NewClient(t)
	token := testkit.Token("u", "three")
	var held sync.WaitGroup
	for range 3 {
		held.Go(func() { callForUnits(t, client, gateway.URL+"/api/image-analysis?hold", token) })
	}
	testkit.Eventually(t, "three requests are at the upstream", func() bool { return upstream.sent.Load() == 3 })
	for _, body := range []string{"", "a body"} {
		ctx, hangUp := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", gateway.URL+"/api/image-analysis", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		gone := make(chan error, 1)
		go func() {
			res, err := client.Do(req)
			if err == nil {
				res.Body.Close()
			}
			gone <- err
		}()
		testkit.Eventually(t, "one waits", func() bool { return gatewaytest.Metric(gateway, "metergate_waiting_requests") == "1" })
		hangUp()
		if err := <-gone; err == nil {
			t.Error("the client that hung up got a response")
		}
		testkit.Eventually(t, "none waits", func() bool { return gatewaytest.Metric(gateway, "metergate_waiting_requests") == "0" })
	}
	if h := hashOf(t, redis.Addr, "u"); h["places"] != "3" {
		t.Errorf("%s places are taken, want 3: %v", h["places"], h)
	}
	close(upstream.letGo)
	held.Wait()
	wantNothingHeld(t, redis.Addr, "u")
	if u := gatewaytest.Usage(t, gateway, token); u.Used != 3 || upstream.sent.Load() != 3 {
		t.Errorf("%d used, %d reached the upstream; want 3 and 3", u.Used, upstream.sent.Load())
	}
}

// wantNothingHeld waits until Redis has neither holds nor places of a user.
func wantNothingHeld(t *testing.T, redisAddr, user string) {
	t.Helper()
	testkit.EventuallyWithin(t, time.Minute, "nothing is held, and no place taken", func() bool { return !holdsAnything(hashOf(t, redisAddr, user)) })
}

// holdsAnything reports whether a user's hash has holds or places.
func holdsAnything(hash map[string]string) bool {
	for field := range hash {
		switch kind, _, _ := strings.Cut(field, "/"); kind {
		case "lease", "held", "heldextra", "place", "places":
			return true
		}
	}
	return false
}
