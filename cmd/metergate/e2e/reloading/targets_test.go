package reloading

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// A mortal is a target that can be killed together with its connections and started again
// on the same address.
type mortal struct {
	t       *testing.T
	addr    string
	handler http.Handler
	server  *http.Server
}

func newMortal(t *testing.T, h http.HandlerFunc) *mortal {
	m := &mortal{t: t, addr: testkit.FreeAddress(t), handler: h}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *mortal) start() {
	l, err := net.Listen("tcp", m.addr)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.server = &http.Server{Handler: m.handler}
	go m.server.Serve(l)
}

func (m *mortal) kill() { m.server.Close() }

// One of two targets is killed and started again, under load. No idempotent request
// fails, and no other request reaches the targets twice.
func TestTargetDiesUnderLoad(t *testing.T) {
	var seen sync.Map // how often each POST came, by its id
	handler := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if id := r.Header.Get("X-Test-Id"); r.Method == "POST" {
			n, _ := seen.LoadOrStore(id, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		}
		io.WriteString(w, "ok")
	}
	targets := []*mortal{newMortal(t, handler), newMortal(t, handler)}
	text := strings.Replace(gatewaytest.ReloadYAML("http://"+targets[0].addr, 100),
		`targets: [{ url: "http://`+targets[0].addr+`" }]`,
		fmt.Sprintf(`targets: [{ url: "http://%s" }, { url: "http://%s" }], eject: { for: 200ms }, health: { path: /, interval: 200ms }`, targets[0].addr, targets[1].addr), 1)
	g := gatewaytest.StartWith(t, text)
	client := gatewaytest.NewClient(t)
	var stop atomic.Bool
	var wait sync.WaitGroup
	var gets, posts, failedPosts atomic.Int64
	for worker := range 8 {
		wait.Go(func() {
			for n := 0; !stop.Load(); n++ {
				method, path := "GET", "/api/stream"
				if n%2 == 0 {
					method, path = "POST", "/api/analyze"
				}
				req, _ := http.NewRequest(method, g.URL+path, nil)
				req.Header.Set("Authorization", "Bearer "+testkit.Token(fmt.Sprint("pool-", worker), "enterprise"))
				req.Header.Set("X-Test-Id", fmt.Sprint(worker, "-", n))
				res, err := client.Do(req)
				status := 0
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					status = res.StatusCode
				}
				switch {
				case method == "POST" && status != 200:
					failedPosts.Add(1)
				case method == "POST":
					posts.Add(1)
				case status == 200 && err == nil:
					gets.Add(1)
				default:
					t.Errorf("a GET got status %d, error %v", status, err)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(3, 4))
	progress := func() {
		n := gets.Load()
		testkit.EventuallyWithin(t, time.Minute, "requests go on", func() bool { return gets.Load() > n+50 || t.Failed() })
	}
	for range gatewaytest.Times(10, 100) {
		m := targets[random.IntN(2)]
		progress()
		m.kill()
		progress()
		m.start()
		progress()
		// Both targets have to be up before one is killed, or there may be none to retry
		// on.
		testkit.EventuallyWithin(t, time.Minute, "both are up", func() bool {
			return gatewaytest.TargetsUp(g.Process) == 2
		})
	}
	stop.Store(true)
	wait.Wait()
	t.Logf("%d GETs, %d POSTs, %d failed POSTs", gets.Load(), posts.Load(), failedPosts.Load())
	seen.Range(func(id, n any) bool {
		if got := n.(*atomic.Int64).Load(); got != 1 {
			t.Errorf("POST %s reached the targets %d times, want once", id, got)
		}
		return true
	})
}
