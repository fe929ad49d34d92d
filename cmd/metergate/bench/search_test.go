package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// BenchmarkSearch measures the figures of docs/scale.md: how long GET /admin/search/users takes to its first page
// and to its last, how much memory the gateway takes, and how long metered requests take while one search
// follows another:
//
//	go test ./cmd/metergate/bench -run '^$' -bench Search -benchtime 1x
func BenchmarkSearch(b *testing.B) {
	for _, users := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint("redis ", users), func(b *testing.B) {
			url := redistest.Start(b).URL()
			s, err := redisstore.Open(redisstore.Options{URL: url, Timeout: 20 * time.Second})
			if err != nil {
				b.Fatal(err)
			}
			countUsers(b, s, users)
			s.Close()
			measureSearch(b, url)
		})
		b.Run(fmt.Sprint("embedded ", users), func(b *testing.B) {
			dir := b.TempDir()
			s, err := boltstore.Open(dir, boltstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			countUsers(b, s, users)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			measureSearch(b, "embedded:"+dir)
		})
	}
}

// countUsers counts something of so many users in a month.
func countUsers(b *testing.B, s quota.Store, users int) {
	plan, err := quota.NewPlan(quota.PlanOptions{Name: "free", WarnAt: 80, Endpoints: []string{"analyze"}, Limits: []quota.Limit{{Amount: 1000, Period: quota.Month}}})
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for range 128 {
		wait.Go(func() {
			for i := next.Add(1); i <= int64(users) && !b.Failed(); i = next.Add(1) {
				change := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": i * 7919 % 1200}}
				if _, err := s.ApplyChange(context.Background(), fmt.Sprintf("auth0|%024d", i), plan.OnlyChoice(), change); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// search follows a search, and returns how long its first page took and how long all of it.
func search(b *testing.B, p *gatewaytest.Process) (first, whole time.Duration) {
	began := time.Now()
	req, _ := http.NewRequest("GET", p.Admin+"/admin/search/users?sort=used", nil)
	req.Header.Set("Authorization", "Bearer "+gatewaytest.AdminToken)
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Error(err)
		return 0, 0
	}
	defer res.Body.Close()
	isDone := false
	lines := bufio.NewScanner(res.Body)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "event: page") && first == 0 {
			first = time.Since(began)
		}
		isDone = isDone || strings.Contains(lines.Text(), `"done":true`)
	}
	if !isDone {
		b.Errorf("%d: the search broke off", res.StatusCode)
	}
	return first, time.Since(began)
}

func measureSearch(b *testing.B, store string) {
	upstream := gatewaytest.StartUpstream(b, "ok")
	p := gatewaytest.StartWithAdminAPI(b, store, upstream.URL, gatewaytest.Patient)
	requests := func() time.Duration {
		var took []time.Duration
		client := gatewaytest.NewClient(b)
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			began := time.Now()
			if status := gatewaytest.Post(client, p.URL+"/api/analyze", testkit.Token(fmt.Sprint("u-", len(took)%50), "free")); status != 200 && status != 429 {
				b.Errorf("status %d", status)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	for b.Loop() {
		requests()
		before := gatewaytest.PeakMemory(b, p)
		quiet := requests()
		first, whole := search(b, p)
		stop, searches := make(chan struct{}), sync.WaitGroup{}
		searches.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					search(b, p)
				}
			}
		})
		busy := requests()
		close(stop)
		searches.Wait()
		b.ReportMetric(float64(first.Milliseconds()), "first-page-ms")
		b.ReportMetric(float64(whole.Milliseconds()), "whole-ms")
		b.ReportMetric(float64(gatewaytest.PeakMemory(b, p)-before)/(1<<20), "more-MiB")
		b.ReportMetric(float64(quiet.Microseconds()), "quiet-p99-us")
		b.ReportMetric(float64(busy.Microseconds()), "busy-p99-us")
		b.ReportMetric(0, "ns/op")
	}
}
