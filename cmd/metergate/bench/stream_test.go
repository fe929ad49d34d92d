package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// BenchmarkStreams opens 5,000 streams of as many users on one gateway, and another
// gateway makes calls for those users. It reports the memory that the gateway uses for a
// stream, and the delay from a 2xx to the event that shows it.
func BenchmarkStreams(b *testing.B) {
	const streams, calls = 5000, 1000
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(b)
	here := gatewaytest.StartGateway(b, redis.URL(), upstream.URL)
	there := gatewaytest.StartGateway(b, redis.URL(), upstream.URL)
	token := func(i int) string { return testkit.Token(fmt.Sprint("stream-", i), "enterprise") }
	measured := &server{name: "metergate", pid: here.Cmd.Process.Pid}
	before := measured.resident(b)

	// Each stream reports when it has seen its user's next count.
	seen := make([]chan time.Time, streams)
	transport := &http.Transport{MaxConnsPerHost: 0}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var ready sync.WaitGroup
	for i := range streams {
		seen[i] = make(chan time.Time, calls)
		req, _ := http.NewRequest("GET", here.URL+"/usage/stream", nil)
		req.Header.Set("Authorization", "Bearer "+token(i))
		res, err := client.Do(req)
		if err != nil || res.StatusCode != 200 {
			b.Fatal(res, err)
		}
		defer res.Body.Close()
		ready.Add(1)
		go func() {
			used, first := int64(0), true
			for lines := bufio.NewScanner(res.Body); lines.Scan(); {
				data, ok := strings.CutPrefix(lines.Text(), "data: ")
				if !ok {
					continue
				}
				at := time.Now()
				var u quota.Usage
				if json.Unmarshal([]byte(data), &u) != nil {
					continue
				}
				if first {
					first = false
					ready.Done()
				} else if u.Used > used {
					seen[i] <- at
				}
				used = u.Used
			}
		}()
	}
	ready.Wait()
	perStream := (measured.resident(b) - before) / streams

	for b.Loop() {
		var delays []time.Duration
		for n := range calls {
			i := n * 7919 % streams
			req, _ := http.NewRequest("POST", there.URL+"/api/analyze", nil)
			req.Header.Set("Authorization", "Bearer "+token(i))
			res, err := client.Do(req)
			answered := time.Now()
			if err != nil || res.StatusCode != 200 {
				b.Fatal(res, err)
			}
			res.Body.Close()
			// The event may arrive before the response does.
			delays = append(delays, max(0, (<-seen[i]).Sub(answered)))
		}
		slices.Sort(delays)
		b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "ms-p50")
		b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "ms-p99")
	}
	b.ReportMetric(perStream/1024, "KiB/stream")
	b.ReportMetric(0, "ns/op") // means nothing here
}
