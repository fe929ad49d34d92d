package counting

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A plan allows a hundred requests. Of a thousand at once through two gateways, exactly a
// hundred pass.
func TestLimitAdmitsExactlyItsRequests(t *testing.T) {
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent.Add(1)
		io.Copy(io.Discard, r.Body)
	}))
	defer upstream.Close()
	redis := redistest.Start(t)
	gateways := []*gatewaytest.Process{gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient), gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient)}
	client := gatewaytest.NewClient(t)
	for round := range 20 {
		sent.Store(0)
		token := testkit.Token(fmt.Sprint("user-", round), "free")
		var statuses sync.Map
		var wait sync.WaitGroup
		for i := range 1000 {
			wait.Go(func() {
				req, _ := http.NewRequest("POST", gateways[i%2].URL+"/api/analyze", nil)
				req.Header.Set("Authorization", "Bearer "+token)
				status := "no answer"
				res, err := client.Do(req)
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
					status = res.Status
				} else {
					t.Log(err)
				}
				n, _ := statuses.LoadOrStore(status, new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
			})
		}
		wait.Wait()
		got := map[string]int64{}
		statuses.Range(func(status, n any) bool { got[status.(string)] = n.(*atomic.Int64).Load(); return true })
		if got["200 OK"] != 100 || got["429 Too Many Requests"] != 900 || sent.Load() != 100 {
			t.Fatalf("round %d: got %v, and %d requests reached the upstream; want 100 times 200, 900 times 429, and 100", round, got, sent.Load())
		}
		for _, g := range gateways {
			if u := gatewaytest.Usage(t, g, token); u.Used != 100 || u.InFlight != 0 || u.Status != quota.StatusBlocked || u.Endpoints["analyze"].Used != 100 {
				t.Fatalf("round %d: usage %+v", round, u)
			}
		}
	}
}

// Successes, errors, broken connections and clients that hang up are mixed. The count
// lies between the successes that clients saw and those that the upstream sent.
func TestOnlySuccessesAreCounted(t *testing.T) {
	type tally struct{ seen, sent atomic.Int64 }
	var users [8]tally
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		q := r.URL.Query()
		user, _ := strconv.Atoi(q.Get("user"))
		if delay, _ := time.ParseDuration(q.Get("delay")); delay > 0 {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
			}
		}
		status, _ := strconv.Atoi(q.Get("status"))
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		if status/100 == 2 {
			users[user].sent.Add(1)
		}
		w.WriteHeader(status)
		if q.Get("break") != "" && status == 200 {
			w.Write(make([]byte, 10_000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer upstream.Close()
	redis := redistest.Start(t)
	gateways := []*gatewaytest.Process{gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient), gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient)}
	client := gatewaytest.NewClient(t)
	client.CheckRedirect = gatewaytest.KeepRedirects
	var wait sync.WaitGroup
	for worker := range 32 {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 100 {
				user := random.IntN(len(users))
				status := []int{200, 200, 201, 204, 302, 404, 500, 503, 0}[random.IntN(9)]
				query := fmt.Sprintf("?user=%d&status=%d&delay=%dms", user, status, random.IntN(20))
				ctx, cancel := context.WithCancel(context.Background())
				if random.IntN(4) == 0 {
					time.AfterFunc(time.Duration(random.IntN(25))*time.Millisecond, cancel)
				}
				if random.IntN(5) == 0 {
					query += "&break=1"
				}
				url := gateways[random.IntN(2)].URL + "/api/analyze" + query
				req, _ := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(strings.Repeat("x", random.IntN(10_000))))
				req.Header.Set("Authorization", "Bearer "+testkit.Token(fmt.Sprint("mixed-", user), "enterprise"))
				if res, err := client.Do(req); err == nil {
					if res.StatusCode/100 == 2 {
						users[user].seen.Add(1)
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				cancel()
			}
		})
	}
	wait.Wait()
	for i := range users {
		token := testkit.Token(fmt.Sprint("mixed-", i), "enterprise")
		// A client that hung up did not wait until the gateway gave the unit back.
		testkit.EventuallyWithin(t, time.Minute, "nothing is in flight", func() bool { return gatewaytest.Usage(t, gateways[0], token).InFlight == 0 })
		used, seen, sent := gatewaytest.Usage(t, gateways[1], token).Used, users[i].seen.Load(), users[i].sent.Load()
		if used < seen || used > sent || seen == 0 {
			t.Errorf("user %d: clients saw %d successes, %d are counted, the upstream sent %d", i, seen, used, sent)
		}
	}
}

// A metered request takes two round trips to Redis, reading the usage takes one, and a
// request that is not metered none. Redis itself counts them.
func TestRequestTakesTwoRoundTrips(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t)
	gateway := gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	token := testkit.Token("u", "free")
	do := func(method, path string) {
		req, _ := http.NewRequest(method, gateway.URL+path, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s %s: %v %v", method, path, res, err)
		}
		res.Body.Close()
	}
	do("POST", "/api/analyze") // connects, and loads the scripts
	do("GET", "/usage")
	for _, c := range []struct {
		method, path string
		calls        int
	}{{"POST", "/api/analyze", 2}, {"GET", "/usage", 1}, {"GET", "/api/status", 0}} {
		before := redis.ScriptCalls()
		for range 10 {
			do(c.method, c.path)
		}
		if n := redis.ScriptCalls() - before; n != 10*c.calls {
			t.Errorf("10 times %s %s: %d round trips to Redis, want %d", c.method, c.path, n, 10*c.calls)
		}
	}
}

// Uploads are passed on while they arrive; the gateway does not collect them in memory.
func TestUploadsTakeLittleMemory(t *testing.T) {
	const size = 30 << 20
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n != size || err != nil {
			w.WriteHeader(500)
		}
	}))
	defer upstream.Close()
	redis := redistest.Start(t)
	gateway := gatewaytest.StartGateway(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	token := testkit.Token("u", "enterprise")
	upload := func() {
		req, _ := http.NewRequest("POST", gateway.URL+"/api/image-analysis", io.LimitReader(gatewaytest.Zeros{}, size))
		req.ContentLength = size
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "image/png")
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%v, error %v", res, err)
			return
		}
		res.Body.Close()
	}
	upload()
	before := gatewaytest.PeakMemory(t, gateway)
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(upload)
	}
	wait.Wait()
	// At most a tenth of what passed through.
	if grown := gatewaytest.PeakMemory(t, gateway) - before; grown > 16*size/10 {
		t.Errorf("16 uploads of %d MiB at once took %d MiB of memory", size>>20, grown>>20)
	}
	if u := gatewaytest.Usage(t, gateway, token); u.Endpoints["image-analysis"].Used != 17 {
		t.Errorf("usage: %+v", u)
	}
}
