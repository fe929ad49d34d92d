package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
)

// BenchmarkSlow has 10,000 requests in flight, each of which its upstream answers after
// two seconds, and shows what the gateway takes for them. As many clients as requests
// send the next one when they have an answer.
func BenchmarkSlow(b *testing.B) {
	const samples = 50
	inFlight := connectionsThatFit(b, 10_000)
	redis := redistest.Start(b)
	upstream := startRole(b, "upstream", "upstream")
	// A machine that is too small for 5,000 requests a second makes them wait; none is
	// to fail for it.
	gateway, _ := startLoaded(b, "metergate, Redis", redis.URL(), upstream.url(), 2, loadPaths(1), "STORE_TIMEOUT=10s")
	request := loadRequests(1000, loadPaths(1)[0]+"?wait=2s")
	for b.Loop() {
		idle := sampleOf(b, gateway)
		ctx, stop := context.WithCancel(b.Context())
		var answered, failed atomic.Int64
		var clients sync.WaitGroup
		begun := time.Now()
		for i := range inFlight {
			clients.Go(func() {
				c := &caller{address: gateway.address}
				defer c.hangUp()
				// They do not all come at once, nor keep in step afterwards.
				pause(ctx, time.Duration(i)*10*time.Second/time.Duration(inFlight))
				for n := i; ctx.Err() == nil; n++ {
					if status, _ := c.call(request[n%len(request)]); status == 200 {
						answered.Add(1)
					} else {
						failed.Add(1)
						pause(ctx, time.Second) // as Retry-After says
					}
				}
			})
		}
		// Two rounds of answers later, whatever grows with the requests has grown.
		var seen []sample
		for deadline := begun.Add(2 * time.Minute); len(seen) < samples; pause(ctx, 200*time.Millisecond) {
			s := sampleOf(b, gateway)
			if time.Now().After(deadline) {
				b.Fatalf("after two minutes %.0f requests are in flight, not %d; %d answered, %d failed", s.inFlight, inFlight, answered.Load(), failed.Load())
			}
			if s.inFlight > 0.95*float64(inFlight) && answered.Load() > 2*int64(inFlight) {
				seen = append(seen, s)
			}
		}
		stop()
		clients.Wait()
		// On a machine that cannot serve them all some wait too long, and the gateway
		// says that it is overloaded.
		if failed.Load() > 0 {
			b.Logf("%d requests failed, %d did not", failed.Load(), answered.Load())
		}
		if failed.Load() > answered.Load()/10 {
			b.Error("too many to say anything")
		}
		of := func(value func(sample) float64) float64 { return median(valuesOf(seen, value)) }
		requests := of(func(s sample) float64 { return s.inFlight })
		perRequest := (of(func(s sample) float64 { return s.resident }) - idle.resident) / requests
		rows := [][]string{{fmt.Sprintf("medians of %d samples", samples), "requests in flight", "resident", "heap in use", "goroutines", "descriptors"}}
		rows = append(rows, []string{"idle", number(idle.inFlight), mebibytes(idle.resident), mebibytes(idle.heap), number(idle.goroutines), number(idle.descriptors)})
		rows = append(rows, []string{"waiting for a slow upstream", number(requests)})
		for _, c := range sampleColumns {
			values := valuesOf(seen, c.of)
			rows[2] = append(rows[2], c.text(median(values))+spread(values, c.text))
		}
		show(b, markdown(rows))
		b.ReportMetric(of(func(s sample) float64 { return s.resident })/(1<<20), "MiB-resident")
		b.ReportMetric(perRequest/1024, "KiB/request")
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
