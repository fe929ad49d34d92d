package bench

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// traffic is a load that this process puts on a server, over connections that stay open.
type traffic struct {
	requests    [][]byte // as they go over the wire; in turn, and again from the first
	connections int
	// busy is how many connections have a request at a time. 0 means all.
	busy  int
	lasts time.Duration
	// rate is how many requests are sent a second, whether or not earlier ones have been
	// answered. With 0, a connection sends its next request when it has its response.
	rate int
}

// callTimeout is how long a request may wait for its response.
const callTimeout = time.Minute

// maxWaiting bounds the connections of a load at a fixed rate. A server with so many
// waiting requests does not keep up.
const maxWaiting = 4000

// run puts the load on s. Before the clock starts, each connection has been made and has
// had a response.
func (f traffic) run(t testing.TB, s *server) round {
	t.Helper()
	if f.busy == 0 {
		f.busy = f.connections
	}
	free := make(chan *caller, max(f.connections, maxWaiting))
	defer func() {
		close(free)
		for c := range free {
			c.hangUp()
		}
	}()
	var connecting sync.WaitGroup
	var next atomic.Int64
	for range min(f.connections, 64) {
		connecting.Go(func() {
			for i := int(next.Add(1)); i <= f.connections; i = int(next.Add(1)) {
				c := &caller{address: s.address}
				if status, err := c.call(f.requests[i%len(f.requests)]); status != 200 {
					t.Errorf("%s: connection %d of %d: status %d, error %v", s.name, i, f.connections, status, err)
				}
				free <- c
			}
		})
	}
	connecting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if f.rate > 0 {
		return f.pace(t, s, free)
	}
	return f.press(t, s, free)
}

// press sends as many requests as the server can answer.
func (f traffic) press(t testing.TB, s *server, free chan *caller) round {
	t.Helper()
	var failed atomic.Int64
	var next atomic.Int64
	next.Store(rand.Int64N(int64(len(f.requests))))
	took := make([][]time.Duration, f.busy)
	cpu, redis, start := s.cpu(t), s.redisCPU(t), time.Now()
	var callers sync.WaitGroup
	for i := range took {
		callers.Go(func() {
			for time.Since(start) < f.lasts {
				c := <-free
				request := f.requests[next.Add(1)%int64(len(f.requests))]
				sent := time.Now()
				status, _ := c.call(request)
				took[i] = append(took[i], time.Since(sent))
				if status != 200 {
					failed.Add(1)
				}
				free <- c
			}
		})
	}
	callers.Wait()
	all := slices.Concat(took...)
	r := round{
		rate:   float64(len(all)) / time.Since(start).Seconds(),
		cpu:    (s.cpu(t) - cpu) / time.Duration(len(all)),
		redis:  (s.redisCPU(t) - redis) / time.Duration(len(all)),
		sent:   len(all),
		failed: int(failed.Load()),
	}
	r.setPercentiles(all)
	return r
}

// pace sends requests at a fixed rate. This is an open model: users do not wait for each
// other. A request is due at its time, whether or not earlier ones have been answered,
// and its time counts from then. A server that stops for a while therefore delays all
// requests that were due in that time. (wrk2 calls the other way coordinated omission.)
// The round also records how late the generator itself was, which is included in the
// times of the requests.
func (f traffic) pace(t testing.TB, s *server, free chan *caller) round {
	t.Helper()
	n := int(f.lasts.Seconds() * float64(f.rate))
	took, late := make([]time.Duration, n), make([]time.Duration, n)
	var failed atomic.Int64
	var waiting sync.WaitGroup
	// Use one processor more than usual, for the thread that sleeps.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpu, redis, start := s.cpu(t), s.redisCPU(t), time.Now()
	for i, at := 0, rand.IntN(len(f.requests)); i < n; i, at = i+1, at+1 {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(f.rate))
		pauseUntil(due)
		var c *caller
		select {
		case c = <-free:
		default:
			c = &caller{address: s.address}
			if f.connections++; f.connections > maxWaiting {
				waiting.Wait()
				t.Fatalf("%s does not keep up: of %d requests, %d are waiting", s.name, i, maxWaiting)
			}
		}
		late[i] = time.Since(due)
		err := c.send(f.requests[at%len(f.requests)])
		waiting.Go(func() {
			status := 0
			if err == nil {
				status, _ = c.receive()
			}
			took[i] = time.Since(due)
			if status != 200 {
				failed.Add(1)
			}
			free <- c
		})
	}
	waiting.Wait()
	r := round{
		rate:   float64(n) / time.Since(start).Seconds(),
		cpu:    (s.cpu(t) - cpu) / time.Duration(n),
		redis:  (s.redisCPU(t) - redis) / time.Duration(n),
		sent:   n,
		failed: int(failed.Load()),
	}
	r.setPercentiles(took)
	slices.Sort(late)
	r.late50, r.late99 = percentile(late, 500), percentile(late, 990)
	return r
}

// A caller is one connection of a client. It costs the machine less than an http.Client,
// which would be most of the work of the load.
type caller struct {
	address string
	conn    net.Conn // nil: to be made with the next request
	in      *bufio.Reader
}

// call sends a request and reads its response. The status is 0 if there was none.
func (c *caller) call(request []byte) (status int, err error) {
	if err := c.send(request); err != nil {
		return 0, err
	}
	return c.receive()
}

func (c *caller) send(request []byte) (err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.address, callTimeout); err != nil {
			c.conn = nil
			return err
		}
		c.in = bufio.NewReader(c.conn)
	}
	c.conn.SetDeadline(time.Now().Add(callTimeout))
	if _, err = c.conn.Write(request); err != nil {
		c.hangUp()
	}
	return err
}

func (c *caller) receive() (status int, err error) {
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.hangUp()
		return 0, err
	}
	if _, err = io.Copy(io.Discard, res.Body); err != nil {
		c.hangUp()
		return 0, err
	}
	if res.Close {
		c.hangUp()
	}
	return res.StatusCode, nil
}

func (c *caller) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// maxPrepared bounds the prepared requests of a load. No round sends so many.
const maxPrepared = 50_000

// loadRequests prepares requests of a number of users, at most maxPrepared, to the paths
// in turn.
func loadRequests(users int, paths ...string) [][]byte {
	n := min(users, maxPrepared)
	step := users / n
	requests := make([][]byte, max(n, len(paths)))
	for i := range requests {
		requests[i] = loadRequest(loadUser(i%n*step), paths[i%len(paths)])
	}
	return requests
}

func loadUser(i int) string { return fmt.Sprint("user-", i) }

func loadRequest(user, path string) []byte {
	return requestWithToken(testkit.Token(user, "load"), path)
}

func requestWithToken(token, path string) []byte {
	const body = "a text of a few words"
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		path, token, len(body), body)
}

// inTurn puts their traffic on the servers, one after another, round by round. The first
// round only warms up and is not reported.
func inTurn(t testing.TB, rounds int, servers []*server, traffics ...traffic) []series {
	t.Helper()
	all := make([]series, len(servers))
	for n := range rounds + 1 {
		for i, s := range servers {
			r := traffics[i%len(traffics)].run(t, s)
			if all[i].name = s.name; n > 0 {
				all[i].rounds = append(all[i].rounds, r)
			}
		}
	}
	return all
}
