package bench

import (
	"bufio"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
)

// Tests of the instruments: they must show what really happened.

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for perMille, want := range map[int]time.Duration{500: 50, 900: 90, 990: 99, 999: 100} {
		if got := percentile(hundred, perMille); got != want {
			t.Errorf("of 1 to 100, %d of a thousand are at most %d, want %d", perMille, got, want)
		}
	}
	if got := percentile([]time.Duration{7}, 500); got != 7 {
		t.Errorf("the median of one number 7 is %d", got)
	}
	if got := percentile(nil, 500); got != 0 {
		t.Errorf("the median of none is %d", got)
	}
}

// A ratio compares two servers in the same round. If the machine was slow in the second
// round, it was slow for both.
func TestTables(t *testing.T) {
	base := series{"base", []round{{p50: time.Millisecond}, {p50: 10 * time.Millisecond}, {p50: 2 * time.Millisecond}}}
	twice := series{"twice", []round{{p50: 2 * time.Millisecond}, {p50: 20 * time.Millisecond}, {p50: 5 * time.Millisecond}}}
	got := ratioTable("loads", []column{p50Column}, []series{base, twice}, base)
	want := `| loads | p50                      |
|-------|--------------------------|
| base  | 2 ms (1 ms..10 ms)       |
| twice | 5 ms = 2.00 (2.00..2.50) |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = differenceTable("", []column{p50Column}, base, twice)
	if !strings.Contains(got, "| "+twice.name+", more | 3 ms (1 ms..10 ms)") {
		t.Errorf("no difference of 3 ms (1 to 10) in\n%s", got)
	}
}

// A column can compare with another row than the others do, and leaves out the servers that do not
// have its figure.
func TestTablesOfSomeServers(t *testing.T) {
	cpu := func(cpu, redis time.Duration) []round { return []round{{cpu: cpu, redis: redis}} }
	bare, pair, gateway := series{"bare", cpu(100, 0)}, series{"pair", cpu(150, 20)}, series{"gateway", cpu(200, 30)}
	all := []series{bare, pair, gateway}
	redis := redisColumn.comparedWith("pair")
	got := ratioTable("", []column{cpuColumn, redis}, all, bare)
	want := `|         | CPU/request               | Redis                     |
|---------|---------------------------|---------------------------|
| bare    | 0.1 µs (0.1 µs..0.1 µs)   |                           |
| pair    | 0.15 µs = 1.50 (1.50..1.50) | 0.02 µs (0.02 µs..0.02 µs) |
| gateway | 0.2 µs = 2.00 (2.00..2.00) | 0.03 µs = 1.50 (1.50..1.50) |
`
	if withoutSpaces(got) != withoutSpaces(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	onlyRatio := column{name: "of bare", value: cpuColumn.value, text: ratio, base: "bare", onlyRatio: true}
	got = ratioTable("", []column{onlyRatio}, all, pair)
	want = "| | of bare |\n|-|-|\n| bare | 1 |\n| pair | 1.50 (1.50..1.50) |\n| gateway | 2.00 (2.00..2.00) |\n"
	if withoutSpaces(got) != withoutSpaces(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = sizeTable("by size", redis, []string{"1", "2"}, [][]series{all, all}, "bare")
	want = `| by size | pair                       | gateway                     |
|---------|----------------------------|-----------------------------|
| 1       | 0.02 µs (0.02 µs..0.02 µs) | 0.03 µs = 1.50 (1.50..1.50) |
| 2       | 0.02 µs (0.02 µs..0.02 µs) | 0.03 µs = 1.50 (1.50..1.50) |
`
	if withoutSpaces(got) != withoutSpaces(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func withoutSpaces(s string) string { return strings.NewReplacer(" ", "", "-", "").Replace(s) }

// The median decides whether a goal is reached. Goals that were not measured are left out.
func TestGoals(t *testing.T) {
	reached := &goal{name: "low", most: 1.25, text: ratio}
	reached.measured(t, []float64{1, 1.25, 9}, ", of 3")
	missed := &goal{name: "high", most: 1.25, text: ratio}
	missed.measured(t, []float64{1, 1.26, 1.27}, "")
	got := goalTable(reached, missed, &goal{name: "unknown", most: 1, text: ratio})
	want := `| goal               | here                              |
|--------------------|-----------------------------------|
| low: at most 1.25  | 1.25 (1.00..9.00), of 3: reached  |
| high: at most 1.25 | 1.26 (1.00..1.27): not reached    |
`
	if withoutSpaces(got) != withoutSpaces(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := goalTable(&goal{name: "unknown"}); got != "" {
		t.Errorf("a table of nothing:\n%s", got)
	}
}

// A server answers none of the first requests until the fiftieth has arrived. A load that
// waits for answers before it sends more would wait for ever. The first request must take
// all of the time in which the others were due.
func TestRateWaitsForNobody(t *testing.T) {
	const stalled = 50
	var arrived atomic.Int64
	var enough sync.WaitGroup
	enough.Add(1)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) == stalled {
			enough.Done()
		}
		enough.Wait()
	}))
	defer backend.Close()
	s := &server{name: "stalled", address: backend.Listener.Addr().String(), pid: os.Getpid()}
	f := traffic{requests: [][]byte{[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}, rate: 1000, lasts: 100 * time.Millisecond}
	free := make(chan *caller, maxWaiting)
	r := f.pace(t, s, free)
	for range len(free) {
		(<-free).hangUp()
	}
	if r.sent != 100 || r.failed != 0 {
		t.Errorf("%d requests sent, %d failed, want 100 and none", r.sent, r.failed)
	}
	// The first request was due 49 ms before the fiftieth, and each later one a
	// millisecond after the one before. Ten of a hundred took more than p90, which is at
	// least the time of the eleventh.
	if want := (stalled - 11) * time.Millisecond; r.p90 < want {
		t.Errorf("one in ten took more than %v, want %v at the least", r.p90, want)
	}
}

// In a closed model, there are never more requests under way than busy connections.
func TestPressKeepsToItsConnections(t *testing.T) {
	var now, most atomic.Int64
	conns := map[string]bool{}
	var mu sync.Mutex
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		time.Sleep(time.Millisecond) // the work, in which others may come
		mu.Lock()
		defer mu.Unlock()
		if n > most.Load() {
			most.Store(n)
		}
		if r.URL.Path == "/fails" {
			w.WriteHeader(500)
		}
	}))
	backend.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		conns[c.RemoteAddr().String()] = true
	}
	backend.Start()
	defer backend.Close()
	s := &server{name: "counting", address: backend.Listener.Addr().String(), pid: os.Getpid()}
	f := traffic{requests: [][]byte{[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}, connections: 9, busy: 3, lasts: 20 * time.Millisecond}
	// All connections are made, though only three are busy at a time.
	r := f.run(t, s)
	mu.Lock()
	if len(conns) != 9 {
		t.Errorf("%d connections, want 9", len(conns))
	}
	mu.Unlock()
	if r.sent == 0 || r.failed != 0 || r.rate <= 0 || r.p50 <= 0 {
		t.Errorf("round: %+v", r)
	}
	most.Store(0)
	free := make(chan *caller, 9)
	for range 9 {
		free <- &caller{address: s.address}
	}
	f.requests = append(f.requests, []byte("GET /fails HTTP/1.1\r\nHost: a\r\n\r\n"))
	r = f.press(t, s, free)
	if n := most.Load(); n > 3 {
		t.Errorf("%d requests at a time, want 3 at the most", n)
	}
	if d := r.sent - 2*r.failed; d < -1 || d > 1 {
		t.Errorf("%d of %d requests failed, want every second one", r.failed, r.sent)
	}
	for range 9 {
		(<-free).hangUp()
	}
}

// The caller replaces a connection that the server closes. A request without a response
// has status 0.
func TestCaller(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", // and the connection is closed
			"",
			"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\nno more",
			"HTTP/1.1 204 No Content\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			"HTTP/1.1 502 Bad Gateway\r\n\r\nuntil the connection is closed",
			"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut short",
		} {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(conn))
			conn.Write([]byte(answer))
			conn.(*net.TCPConn).CloseWrite()
		}
	}()
	c := &caller{address: l.Addr().String()}
	defer c.hangUp()
	request := []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, want := range []int{200, 0, 0, 429, 204, 0, 200, 0, 502, 0} {
		status, err := c.call(request)
		if status != want || (err != nil) != (want == 0) {
			t.Fatalf("status %d, error %v, want %d", status, err, want)
		}
	}
}

// The processor time of a process agrees with what it says itself.
func TestCPU(t *testing.T) {
	s := &server{name: "this process", pid: os.Getpid()}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc on this system")
	}
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	burned := 0.0
	for start := s.cpu(t); s.cpu(t) < start+100*time.Millisecond; {
		burned = math.Sqrt(burned + 1) // until a tenth of a second has been used
	}
	const slack = 20 * time.Millisecond // getrusage may count in steps of 10 ms, user and system time each
	before := used()
	got := s.cpu(t)
	after := used()
	if got < before-slack || got > after+slack {
		t.Errorf("the processor time is %v, want between %v and %v", got, before, after)
	}
	if n := s.resident(t); n < 1<<20 || n > 1<<40 {
		t.Errorf("%.0f bytes are in memory", n)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := s.descriptors(t); n < 4 {
		t.Errorf("%.0f descriptors are open, and there are stdin, stdout, stderr and one file", n)
	}
}

// A proxy that is compared as one that meters must do so: of five requests with a limit of three,
// three pass, and a failure is not counted.
func TestPairAndGatewayMeter(t *testing.T) {
	upstream := startRole(t, "upstream", "upstream")
	pair := startPair(t, upstream.url(), 3)
	checkMeters(t, pair, true)
	checkGivesBack(t, pair)
	gateway, _ := startConfigured(t, "metergate", redistest.Start(t).URL(), upstream.url(),
		"      - { requests: 3, per: month }\n", "  - { match: \"POST /api/analyze\", endpoint: analyze, upstream: analysis }\n")
	checkMeters(t, gateway, true)
	checkGivesBack(t, gateway)
	checkVerifies(t, gateway)
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{7}, 7}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{10, 1, 4, 2}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// What wrk prints must be understood in full.
func TestReadWrk(t *testing.T) {
	const good = "     50%    2.50ms\n  800 requests in 1.00s, 1.2MB read\nRequests/sec:    799.50\n"
	if r, err := readWrk(good); err != nil || r.sent != 800 || r.rate != 799.5 || r.p50 != 2500*time.Microsecond {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", strings.Replace(good, "2.50ms", "1.02m.", 1), strings.Replace(good, "800", "0", 1), strings.Replace(good, "2.50ms", "0.00us", 1)} {
		if r, err := readWrk(bad); err == nil {
			t.Errorf("no error, but %+v of %q", r, bad)
		}
	}
}
