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
)

// Two targets, of which one after the other is killed and comes back, under load.
// No idempotent request fails, and no other is sent twice.
func TestKillAndRestart(t *testing.T) {
	var (
		mu    sync.Mutex
		seen  = map[string]int{} // how often a POST was seen
		addrs []string
	)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" && r.Header.Get("Idempotency-Key") == "" {
			mu.Lock()
			seen[r.URL.Path]++
			mu.Unlock()
		}
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // so that there is something to kill
		io.WriteString(w, "ok")
	})
	start := func(addr string) *httptest.Server {
		var l net.Listener
		for i := 0; l == nil; i++ {
			var err error
			if l, err = net.Listen("tcp", addr); err != nil && i > 1000 {
				t.Fatal(err)
			}
		}
		s := httptest.NewUnstartedServer(handler)
		s.Listener.Close()
		s.Listener = l
		s.Start()
		return s
	}
	kill := func(s *httptest.Server) {
		s.Listener.Close()
		s.CloseClientConnections()
		s.Close()
	}
	servers := []*httptest.Server{start("127.0.0.1:0"), start("127.0.0.1:0")}
	for _, s := range servers {
		addrs = append(addrs, s.Listener.Addr().String())
	}
	p := newPool(t, upstream.Options{Ejection: upstream.Ejection{For: 10 * time.Millisecond}},
		"http://"+addrs[0], "http://"+addrs[1])

	var (
		wg           sync.WaitGroup
		stop         atomic.Bool
		sent, failed atomic.Int64
		lost         atomic.Int64     // POSTs
		finished     [16]atomic.Int64 // requests of each client
	)
	for client := range finished {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				method := []string{"GET", "PUT", "DELETE", "HEAD", "POST", "POST with a key", "POST with a body"}[i%7]
				req := newRequest(strings.Fields(method)[0], fmt.Sprintf("/%d/%d", client, i), "")
				switch method {
				case "POST with a key":
					req.Header.Set("Idempotency-Key", "1")
				case "POST with a body":
					req = newRequest("POST", req.URL.Path, "text")
				}
				res, _, err := send(p, req)
				sent.Add(1)
				finished[client].Add(1)
				switch {
				case err == nil && res.StatusCode == 200:
				case method == "POST" || method == "POST with a body":
					lost.Add(1)
				default:
					failed.Add(1)
					t.Errorf("%s failed: %v", method, err)
				}
			}
		})
	}
	// ready: the target that came back is used, and no request is left that has met
	// its end. One that meets two ends fails.
	ready := func(i int) bool {
		if !p.Targets()[i].EjectedUntil.IsZero() {
			return false
		}
		for c := range finished {
			if finished[c].Load() < 2 {
				return false
			}
		}
		return true
	}
	for cycle := range 10 {
		i := cycle % 2
		kill(servers[i])
		time.Sleep(50 * time.Millisecond) // what clients meet; nothing is waited for
		servers[i] = start(addrs[i])
		for c := range finished {
			finished[c].Store(0)
		}
		for deadline := time.Now().Add(10 * time.Second); !ready(i); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the target that came back is not used: %+v", p.Targets())
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	for _, s := range servers {
		s.Close()
	}
	for path, n := range seen {
		if n > 1 {
			t.Errorf("POST %s was seen %d times", path, n)
		}
	}
	t.Logf("%d requests, %d failed; %d POSTs without a key were broken off, %d arrived", sent.Load(), failed.Load(), lost.Load(), len(seen))
}
