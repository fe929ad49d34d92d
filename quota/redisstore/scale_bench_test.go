package redisstore_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

var scaleUsers = flag.Int("users", 100_000, "users of BenchmarkScale")

// BenchmarkScale measures the figures of docs/scale.md: the bytes that a user takes in Redis, and
// the requests that one core of Redis can serve, by the processor time that Redis reports. Run it
// once:
//
//	go test ./quota/redisstore -run '^$' -bench Scale -benchtime 1x -users 1000000
func BenchmarkScale(b *testing.B) {
	month := quota.Limit{Amount: 1e6, Period: quota.Month}
	for _, plan := range []*quota.Plan{
		quotatest.NewPlan("month", month),
		quotatest.NewPlan("three limits", month, quota.Limit{Amount: 1e6, Period: quota.Month, Endpoint: "image-analysis"},
			quota.Limit{Amount: 1e6, Period: quota.Minute}),
	} {
		b.Run(plan.Name(), func(b *testing.B) {
			server := redistest.Start(b)
			client := redis.NewClient(&redis.Options{Addr: server.Addr})
			defer client.Close()
			var s *redisstore.Store
			reopen := func(later time.Duration) {
				var err error
				s, err = redisstore.Open(redisstore.Options{URL: server.URL(), Timeout: patient, Offset: func() time.Duration { return later }})
				if err != nil {
					b.Fatal(err)
				}
			}
			reopen(0)
			// request makes a request that succeeds.
			request := func(user int, endpoint string) {
				d, err := s.Reserve(context.Background(), quota.Request{
					ID: quota.NewID(), User: "auth0|" + fmt.Sprintf("%024d", user), Plans: plan.OnlyChoice(), Lease: 130 * time.Second,
					Endpoint: endpoint,
				})
				if err == nil {
					_, err = s.Commit(context.Background(), &d.Reservation)
					s.Forget(&d.Reservation)
				}
				if err != nil {
					b.Error(err)
				}
			}
			each := func(n int, do func(i int)) {
				var next atomic.Int64
				var wait sync.WaitGroup
				for range 64 {
					wait.Go(func() {
						for i := int(next.Add(1)); i <= n && !b.Failed(); i = int(next.Add(1)) {
							do(i)
						}
					})
				}
				wait.Wait()
			}
			endpoints := []string{"analyze", "image-analysis", "report"}
			request(0, "report") // loads the scripts
			for b.Loop() {
				// all has some users make a request to each endpoint, and returns the bytes
				// that this takes for each user.
				all := func(users int) float64 {
					before := number(b, client, "memory", "used_memory")
					each(len(endpoints)*users, func(i int) { request(i%users, endpoints[(i-1)/users]) })
					if err := s.Close(); err != nil { // deletes the markers of what is settled
						b.Fatal(err)
					}
					return (number(b, client, "memory", "used_memory") - before) / float64(users)
				}
				b.ReportMetric(all(*scaleUsers), "B/user")
				reopen(31 * 24 * time.Hour)
				b.ReportMetric(all(*scaleUsers/10), "B/further-month")
				reopen(0)
				const requests = 200_000
				before, began := cpu(b, client), time.Now()
				each(requests, func(int) { request(rand.IntN(*scaleUsers), endpoints[rand.IntN(len(endpoints))]) })
				used := cpu(b, client) - before
				b.ReportMetric(requests/used, "requests/core-s")
				b.ReportMetric(requests/time.Since(began).Seconds(), "requests/s")
			}
			b.ReportMetric(0, "ns/op")
			s.Close()
		})
	}
}

// cpu returns the processor time that a Redis has used, in seconds.
func cpu(b *testing.B, c *redis.Client) float64 {
	return number(b, c, "cpu", "used_cpu_sys") + number(b, c, "cpu", "used_cpu_user")
}

// number returns a number of INFO.
func number(b *testing.B, c *redis.Client, section, name string) float64 {
	b.Helper()
	text := c.InfoMap(context.Background(), section).Item(map[string]string{"memory": "Memory", "cpu": "CPU"}[section], name)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.Fatalf("INFO %s has %s %q", section, name, text)
	}
	return n
}
