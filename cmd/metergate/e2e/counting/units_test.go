package counting

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// onEachRedis runs a test on one Redis, and on a Cluster, which is slower.
func onEachRedis(t *testing.T, test func(t *testing.T, redisURL string, slow bool)) {
	t.Run("one server", func(t *testing.T) { test(t, redistest.Start(t).URL(), false) })
	t.Run("Cluster", func(t *testing.T) { test(t, redistest.StartCluster(t, false).URL(), true) })
}

// A plan allows 100 units. Of 1000 requests of 5 units at once through two gateways, exactly 20
// pass.
func TestUnitsAdmitExactlyTheirNumber(t *testing.T) { onEachRedis(t, testUnitsAdmitExactlyTheirNumber) }

func testUnitsAdmitExactlyTheirNumber(t *testing.T, redisURL string, slow bool) {
	requests := 1000
	if slow {
		requests = 300
	}
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer upstream.Close()
	gateways := []*gatewaytest.Process{gatewaytest.StartWithUnits(t, redisURL, upstream.URL, gatewaytest.Patient), gatewaytest.StartWithUnits(t, redisURL, upstream.URL, gatewaytest.Patient)}
	client := gatewaytest.NewClient(t)
	for round := range 20 {
		sent.Store(0)
		token := testkit.Token(fmt.Sprint("user-", round), "credits")
		var passed, refused atomic.Int64
		var wait sync.WaitGroup
		for i := range requests {
			wait.Go(func() {
				switch status, cost := callForUnits(t, client, gateways[i%2].URL+"/api/image-analysis", token); {
				case status == 200 && cost == 5:
					passed.Add(1)
				case status == 429 && cost == 0:
					refused.Add(1)
				default:
					t.Errorf("status %d, charged %d", status, cost)
				}
			})
		}
		wait.Wait()
		if passed.Load() != 20 || refused.Load() != int64(requests-20) || sent.Load() != 20 {
			t.Fatalf("round %d: %d passed, %d of %d were refused, %d reached the upstream; want 20 to pass", round, passed.Load(), refused.Load(), requests, sent.Load())
		}
		for _, g := range gateways {
			if u := gatewaytest.Usage(t, g, token); u.Used != 100 || u.InFlight != 0 || *u.Endpoints["image-analysis"].Units != 100 {
				t.Fatalf("round %d: usage %+v", round, u)
			}
		}
	}
}

// callForUnits makes a request, and returns its status and what it was charged; -1: unknown.
func callForUnits(t *testing.T, client *http.Client, url, token string) (status int, cost int64) {
	req, _ := http.NewRequest("POST", url, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return 0, -1
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if cost, err = strconv.ParseInt(res.Header.Get("X-Usage-Cost"), 10, 64); err != nil {
		cost = -1
	}
	return res.StatusCode, cost
}

// The upstream reports costs from 1 to 20. The limit is never exceeded, and what is used in the end
// is the sum of what clients were told.
func TestReportedUnitsStayInLimit(t *testing.T) { onEachRedis(t, testReportedUnitsStayInLimit) }

func testReportedUnitsStayInLimit(t *testing.T, redisURL string, slow bool) {
	requests := 100
	if slow {
		requests = 50
	}
	var n atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Cost", fmt.Sprint(n.Add(7)%20+1))
	}))
	defer upstream.Close()
	gateways := []*gatewaytest.Process{gatewaytest.StartWithUnits(t, redisURL, upstream.URL, gatewaytest.Patient), gatewaytest.StartWithUnits(t, redisURL, upstream.URL, gatewaytest.Patient)}
	client := gatewaytest.NewClient(t)
	for round := range 20 {
		token := testkit.Token(fmt.Sprint("user-", round), "credits")
		var charged atomic.Int64
		done := make(chan struct{})
		var samples sync.WaitGroup
		samples.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if u := gatewaytest.Usage(t, gateways[0], token); u.Used+u.InFlight > 100 {
					t.Errorf("round %d: %d used and %d held of 100", round, u.Used, u.InFlight)
				}
			}
		})
		var wait sync.WaitGroup
		for i := range requests {
			wait.Go(func() {
				status, cost := callForUnits(t, client, gateways[i%2].URL+"/api/analyze", token)
				if status != 200 && status != 429 || cost < 0 || status == 429 && cost != 0 {
					t.Errorf("status %d, charged %d", status, cost)
				}
				charged.Add(cost)
			})
		}
		wait.Wait()
		close(done)
		samples.Wait()
		if u := gatewaytest.Usage(t, gateways[1], token); u.Used != charged.Load() || u.InFlight != 0 || u.Used > 100 || u.Used == 0 {
			t.Fatalf("round %d: %d used, %d held, clients were told of %d; want the same, 1 to 100, and nothing held", round, u.Used, u.InFlight, charged.Load())
		}
	}
}

// Gateways are killed under load. What was charged lies between what clients were told and what the
// upstream reported, and the limit holds.
func TestUnitsSurviveKills(t *testing.T) {
	var reported atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cost := reported.Load()%3 + 1
		reported.Add(cost)
		w.Header().Set("X-Cost", fmt.Sprint(cost))
	}))
	defer upstream.Close()
	redis := redistest.Start(t)
	stays := gatewaytest.StartWithUnits(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	dies := gatewaytest.StartWithUnits(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	client := gatewaytest.NewClient(t)
	token := testkit.Token("u", "enterprise") // counted in units, and not limited
	var told atomic.Int64
	for range 6 {
		var wait sync.WaitGroup
		for i := range 40 {
			wait.Go(func() {
				g := stays
				if i%2 == 0 {
					g = dies
				}
				for range 5 {
					if status, cost := callForUnits(t, client, g.URL+"/api/analyze", token); status == 200 {
						told.Add(cost)
					}
				}
			})
		}
		dies.Kill()
		wait.Wait()
		dies = dies.Restart()
	}
	u := gatewaytest.Usage(t, stays, token)
	if units := *u.Endpoints["analyze"].Units; units < told.Load() || units > reported.Load() || told.Load() == 0 {
		t.Errorf("%d units charged; clients were told of %d, the upstream has reported %d", units, told.Load(), reported.Load())
	}
}
