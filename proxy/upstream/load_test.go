package upstream_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

// Two targets are killed and restarted in turn, under load. No idempotent request fails,
// and no other request is sent twice.
func TestRestartedTargetsUnderLoad(t *testing.T) {
	var posts postCounter
	targets := []*restartable{startRestartable(t, &posts), startRestartable(t, &posts)}
	p := newPool(t, upstream.Options{Ejection: upstream.Ejection{For: 10 * time.Millisecond}}, targets[0].url(), targets[1].url())

	var clients loadClients
	clients.start(t, p)
	// ready: the restarted target is used again, and every client has finished a request
	// that began after the restart. A request that met two kills would fail.
	ready := func(i int) bool {
		return p.Targets()[i].EjectedUntil.IsZero() && clients.haveAllFinished(2)
	}
	for cycle := range 10 {
		i := cycle % 2
		targets[i].kill()
		clients.resetFinished()
		testkit.Eventually(t, "the clients meet a dead target", func() bool {
			return !p.Targets()[i].EjectedUntil.IsZero() && clients.haveAllFinished(2)
		})
		targets[i].restart(t)
		clients.resetFinished()
		testkit.Eventually(t, "the restarted target is used", func() bool { return ready(i) })
	}
	clients.stop()
	for _, s := range targets {
		s.server.Close()
	}
	posts.checkOnce(t)
	t.Logf("%d requests, %d failed; %d POSTs without a key were lost, %d arrived",
		clients.sent.Load(), clients.failed.Load(), clients.lost.Load(), len(posts.seen))
}

// A postCounter counts how often each POST without a key has arrived.
type postCounter struct {
	mu   sync.Mutex
	seen map[string]int // by path
}

func (c *postCounter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" && r.Header.Get("Idempotency-Key") == "" {
		c.mu.Lock()
		if c.seen == nil {
			c.seen = map[string]int{}
		}
		c.seen[r.URL.Path]++
		c.mu.Unlock()
	}
	time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // so that there is something to kill
	io.WriteString(w, "ok")
}

func (c *postCounter) checkOnce(t *testing.T) {
	for path, n := range c.seen {
		if n > 1 {
			t.Errorf("POST %s arrived %d times", path, n)
		}
	}
}

// A restartable is a target that can be killed and started again at the same address.
type restartable struct {
	handler http.Handler
	addr    string
	server  *httptest.Server
}

func startRestartable(t *testing.T, handler http.Handler) *restartable {
	s := &restartable{handler: handler, addr: testkit.FreeAddress(t)}
	s.restart(t)
	return s
}

func (s *restartable) url() string { return "http://" + s.addr }

func (s *restartable) restart(t *testing.T) {
	var l net.Listener
	for i := 0; l == nil; i++ {
		var err error
		if l, err = net.Listen("tcp", s.addr); err != nil && i > 1000 {
			t.Fatal(err)
		}
	}
	s.server = httptest.NewUnstartedServer(s.handler)
	s.server.Listener.Close()
	s.server.Listener = l
	s.server.Start()
}

func (s *restartable) kill() {
	s.server.Listener.Close()
	s.server.CloseClientConnections()
	s.server.Close()
}

// loadClients send requests of all kinds, one after the other, until they are stopped.
type loadClients struct {
	wg       sync.WaitGroup
	stopping atomic.Bool
	sent     atomic.Int64
	failed   atomic.Int64     // requests that must not fail
	lost     atomic.Int64     // POSTs without a key that failed, as they may
	finished [16]atomic.Int64 // requests of each client since resetFinished
}

func (c *loadClients) start(t *testing.T, p *upstream.Pool) {
	for client := range c.finished {
		c.wg.Go(func() {
			for i := 0; !c.stopping.Load(); i++ {
				kind := []string{"GET", "PUT", "DELETE", "HEAD", "POST", "POST with a key", "POST with a body"}[i%7]
				req := newRequest(strings.Fields(kind)[0], fmt.Sprintf("/%d/%d", client, i), "")
				switch kind {
				case "POST with a key":
					req.Header.Set("Idempotency-Key", "1")
				case "POST with a body":
					req = newRequest("POST", req.URL.Path, "text")
				}
				res, _, err := send(p, req)
				c.sent.Add(1)
				c.finished[client].Add(1)
				switch {
				case err == nil && res.StatusCode == 200:
				case kind == "POST" || kind == "POST with a body":
					c.lost.Add(1)
				default:
					c.failed.Add(1)
					t.Errorf("%s failed: %v", kind, err)
				}
			}
		})
	}
}

func (c *loadClients) resetFinished() {
	for i := range c.finished {
		c.finished[i].Store(0)
	}
}

func (c *loadClients) haveAllFinished(n int64) bool {
	for i := range c.finished {
		if c.finished[i].Load() < n {
			return false
		}
	}
	return true
}

func (c *loadClients) stop() {
	c.stopping.Store(true)
	c.wg.Wait()
}
