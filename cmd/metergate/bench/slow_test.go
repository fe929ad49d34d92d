package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// BenchmarkSlow keeps 10,000 requests in flight, each of which the upstream answers after slowFor. It shows
// what the gateway and the bare proxy use for them.
func BenchmarkSlow(b *testing.B) {
	inFlight := connectionsThatFit(b, 10_000)
	upstream := startRole(b, "upstream", "upstream")
	bare := startBare(b, upstream.url())
	gateway := startOnRedis(b, upstream.url(), "STORE_TIMEOUT=10s")
	for b.Loop() {
		rows := [][]string{{fmt.Sprintf("medians of %d samples", slowSamples), "requests in flight", "resident", "heap in use", "goroutines", "descriptors"}}
		row := func(name string, samples ...sample) {
			medianOf := func(value func(sample) float64) string { return number(median(valuesOf(samples, value))) }
			cells := []string{name, medianOf(func(s sample) float64 { return s.inFlight })}
			for _, c := range sampleColumns {
				values := valuesOf(samples, c.value)
				cell := c.text(median(values)) + spread(values, c.text)
				if median(values) == 0 {
					cell = "unknown"
				}
				cells = append(cells, cell)
			}
			rows = append(rows, cells)
		}
		row(bare.name, waitSlowly(b, bare, inFlight, bareSample)...)
		idle := sampleOf(b, gateway)
		row(gateway.name+", idle", idle)
		seen := waitSlowly(b, gateway, inFlight, sampleOf)
		row(gateway.name, seen...)
		show(b, markdown(rows))
		medianOf := func(value func(sample) float64) float64 { return median(valuesOf(seen, value)) }
		resident := medianOf(func(s sample) float64 { return s.resident })
		b.ReportMetric(resident/(1<<20), "MiB-resident")
		b.ReportMetric((resident-idle.resident)/medianOf(func(s sample) float64 { return s.inFlight })/1024, "KiB/request")
		// What as many requests as the goal speaks of would take.
		all := valuesOf(seen, func(s sample) float64 { return s.resident * 10_000 / s.inFlight })
		memoryGoal.measured(b, all, fmt.Sprintf(", from %s in flight", number(medianOf(func(s sample) float64 { return s.inFlight }))))
	}
	b.ReportMetric(0, "ns/op") // means nothing here
}

// slowFor is how long the upstream takes for a slow request. 10,000 in flight are then 500 a second. With two seconds
// they were 5,000, more than two cores carry beside the load: requests waited for Redis until the gateway refused them.
const slowFor = 20 * time.Second

const slowSamples = 50

// What a request holds while it waits for its upstream.
//
// Stacks: it has two goroutines. That of the request has a stack of 8 KiB, since the deepest
// call, that of Redis, fits into it; the one of net/http that watches the client has 4 KiB at most. If a stack were too
// small by a byte, Go would double it for as long as the connection lives.
//
// New stacks begin small here, so that their size shows what requests need. Usually Go lets them begin with the average
// that the last collection of garbage found in use. If that one ran while the gateway started, the average is that of
// a few goroutines, some of them deep: new stacks then begin with up to 32 KiB, until the next collection.
//
// Heap: half of it are the three buffers that net/http has for each connection.
func TestStacksOfWaitingRequests(t *testing.T) {
	const requests = 300
	const mostStacks = 15 << 10 // bytes a request; one stack of 16 KiB and one of 4 would be 20
	const mostHeap = 21_900     // 20,576 to 21,328 in 30 runs
	arrived, open := make(chan bool, requests), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wait") {
			arrived <- true
			<-open
		}
	}))
	defer upstream.Close()
	defer close(open)
	s := startOnRedis(t, upstream.URL, "STORE_TIMEOUT=20s", "GODEBUG=adaptivestackstart=0")
	short, waiting := loadRequests(10, loadPaths(1)[0]), loadRequests(10, loadPaths(1)[0]+"?wait")
	call := func(c *caller, i int) {
		t.Helper()
		if status, err := c.call(short[i%10]); status != 200 || err != nil {
			t.Fatalf("status %d, error %v", status, err)
		}
	}
	first := &caller{address: s.address}
	defer first.hangUp()
	call(first, 0) // the gateway has started, and is connected
	stacks, heap := memoryOf(t, s)
	for i := range requests {
		c := &caller{address: s.address}
		defer c.hangUp()
		call(c, i) // no other call writes to Redis at the time, so that each of them does
		if err := c.send(waiting[i%10]); err != nil {
			t.Fatal(err)
		}
		testkit.Receive(t, "the request reaches the upstream", arrived)
	}
	stacksNow, heapNow := memoryOf(t, s)
	if each := (stacksNow - stacks) / requests; each > mostStacks || each < 2<<10 {
		t.Errorf("a waiting request has %.0f bytes of stacks, want at most %d", each, mostStacks)
	}
	if each := (heapNow - heap) / requests; each > mostHeap || each < 10<<10 {
		t.Errorf("a waiting request holds %.0f bytes of the heap, want at most %d", each, mostHeap)
	}
}

var (
	stackMetric = regexp.MustCompile(`(?m)^go_memstats_stack_inuse_bytes (\S+)$`)
	heapStat    = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)
)

// memoryOf is how much a gateway uses for stacks, and then how much of its heap is left when garbage has been
// collected, in bytes.
func memoryOf(t testing.TB, s *server) (stacks, heap float64) {
	t.Helper()
	find := func(path string, number *regexp.Regexp) float64 {
		_, body := gatewaytest.Get(s.admin+path, gatewaytest.AdminToken)
		found := number.FindStringSubmatch(body)
		if found == nil {
			t.Fatalf("GET %s has no %v: %s", path, number, body)
		}
		n, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	stacks = find("/metrics", stackMetric)
	for range 4 { // the first three empty the pools, and run the finalizers
		heap = find("/debug/pprof/heap?gc=1&debug=1", heapStat)
	}
	return stacks, heap
}

// bareSample is what can be measured of a process without metrics. It serves one request
// on each connection, and has two descriptors for each.
func bareSample(t testing.TB, s *server) sample {
	open := s.descriptors(t)
	return sample{inFlight: open / 2, resident: s.resident(t), descriptors: open}
}

// waitSlowly has a number of clients that send one slow request after another. It takes
// samples of the server while they wait.
func waitSlowly(b *testing.B, s *server, inFlight int, look func(testing.TB, *server) sample) (seen []sample) {
	b.Helper()
	request := loadRequests(1000, loadPaths(1)[0]+"?wait="+slowFor.String())
	ctx, stop := context.WithCancel(b.Context())
	var answered, failed atomic.Int64
	var why failures
	var clients sync.WaitGroup
	begun := time.Now()
	for i := range inFlight {
		clients.Go(func() {
			c := &caller{address: s.address}
			defer c.hangUp()
			// The clients do not all start at once, and do not keep in step.
			pause(ctx, time.Duration(i)*slowFor/time.Duration(inFlight))
			for n := i; ctx.Err() == nil; n++ {
				if status, err := c.call(request[n%len(request)]); status == 200 {
					answered.Add(1)
				} else {
					failed.Add(1)
					why.add(status, err)
					pause(ctx, slowFor) // so that failures do not raise the rate
				}
			}
		})
	}
	// After two rounds of responses, everything that grows with the requests has grown.
	for deadline := begun.Add(5 * time.Minute); len(seen) < slowSamples; pause(ctx, 200*time.Millisecond) {
		at := look(b, s)
		if time.Now().After(deadline) {
			b.Fatalf("%s: after five minutes %.0f requests are in flight, not %d; %d answered, %d failed: %v", s.name, at.inFlight, inFlight, answered.Load(), failed.Load(), &why)
		}
		if (at.inFlight > 0.95*float64(inFlight) || s.admin == "") && answered.Load() > 2*int64(inFlight) {
			seen = append(seen, at)
		}
	}
	stop()
	clients.Wait()
	if failed.Load() > 0 {
		b.Logf("%s: %d requests failed, %d succeeded: %v", s.name, failed.Load(), answered.Load(), &why)
	}
	if failed.Load() > answered.Load()/10 {
		b.Error("too many requests failed for the figures to mean anything")
	}
	return seen
}

// failures counts why requests failed.
type failures struct {
	mu    sync.Mutex
	count map[string]int
}

func (f *failures) add(status int, err error) {
	for inner := err; inner != nil; inner = errors.Unwrap(err) {
		err = inner // without addresses
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[string]int{}
	}
	f.count[fmt.Sprintf("status %d, error %v", status, err)]++
}

func (f *failures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.count)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
