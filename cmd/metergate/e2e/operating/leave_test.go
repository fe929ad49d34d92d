package operating

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A balancer sends requests to the gateways whose /readyz answered 200 when it last asked. It keeps
// connections, and repeats nothing.
type balancer struct {
	gateways []*behindBalancer
	next     atomic.Int64
}

type behindBalancer struct {
	*gatewaytest.Process
	ready     atomic.Bool
	open      atomic.Int64 // requests
	transport http.RoundTripper
}

func startBalancer(t *testing.T, gateways ...*gatewaytest.Process) *balancer {
	b := new(balancer)
	ctx, end := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for _, p := range gateways {
		g := &behindBalancer{Process: p, transport: gatewaytest.NewClient(t).Transport}
		g.ready.Store(true)
		b.gateways = append(b.gateways, g)
		asking.Go(func() {
			for ctx.Err() == nil {
				status, _ := gatewaytest.Get(g.Admin+"/readyz", "")
				g.ready.Store(status == 200)
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(func() { end(); asking.Wait() })
	return b
}

// RoundTrip sends a request to a gateway that is ready, in turn.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	turn := int(b.next.Add(1))
	for n := range b.gateways {
		g := b.gateways[(turn+n)%len(b.gateways)]
		g.open.Add(1)
		if g.ready.Load() {
			defer g.open.Add(-1)
			out := r.Clone(r.Context())
			out.URL.Host = strings.TrimPrefix(g.URL, "http://")
			return g.transport.RoundTrip(out)
		}
		g.open.Add(-1)
	}
	return nil, errors.New("no gateway is ready")
}

const leaving = "leaving: /readyz answers 503"

// During shutdown_delay a load balancer moves its requests to the other gateway, and none of them
// fails. A client that does not move is served as well, and told to; its stream of usage goes on.
func TestLeavingGatewayServesOn(t *testing.T) {
	redis := redistest.Start(t)
	upstream := gatewaytest.StartUpstream(t, "ok")
	text := strings.Replace(gatewaytest.BasicYAML, "shutdown_timeout", "shutdown_delay: 5m\nshutdown_timeout", 1)
	var gateways []*gatewaytest.Process
	for range 2 {
		env := []string{"STORE=" + redis.URL(), "UPSTREAM=" + upstream.URL, "LEVEL=info", "JOURNAL=" + t.TempDir(), gatewaytest.Patient}
		gateways = append(gateways, gatewaytest.StartWith(t, text, env...).Process)
	}
	leaver, client := gateways[0], gatewaytest.NewClient(t)
	stream := openStream(t, leaver, testkit.Token("watcher", "enterprise"))

	b := startBalancer(t, gateways...)
	through := &http.Client{Transport: b}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var sent, failed atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if status := gatewaytest.Post(through, "http://balancer/api/analyze", testkit.Token("u", "enterprise")); status != 200 {
					failed.Add(1)
				}
				sent.Add(1)
			}
		})
	}
	sentMore := func(what string) {
		t.Helper()
		before := sent.Load()
		testkit.Eventually(t, what, func() bool { return sent.Load() >= before+50 })
	}
	sentMore("requests before the signal")
	leaver.Signal(syscall.SIGTERM)
	leaver.WaitForText(leaving)
	if status, body := gatewaytest.Get(leaver.Admin+"/readyz", ""); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	for range 2 { // each on a new connection
		req, _ := http.NewRequest("POST", leaver.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("watcher", "enterprise"))
		res, err := client.Do(req)
		if err != nil || res.StatusCode != 200 || !res.Close {
			t.Fatalf("a request to the gateway that leaves: %v %v; want 200 and Connection: close", res, err)
		}
		res.Body.Close()
	}
	for used := int64(0); used != 2; { // the two requests
		if used = stream.next(); used < 0 {
			t.Fatal("the stream has ended")
		}
	}
	testkit.Eventually(t, "the balancer sends it nothing", func() bool { return !b.gateways[0].ready.Load() && b.gateways[0].open.Load() == 0 })
	sentMore("requests to the other gateway")

	leaver.Signal(syscall.SIGTERM) // a second one does not wait
	if code := leaver.Wait(); code != 1 || !strings.Contains(leaver.Output(), "second signal") {
		t.Errorf("exit status %d, want 1", code)
	}
	sentMore("requests after it is gone")
	stop()
	clients.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
	if u := gatewaytest.Usage(t, gateways[1], testkit.Token("u", "enterprise")); u.Used != sent.Load() {
		t.Errorf("%d used, want %d", u.Used, sent.Load())
	}
}

// After shutdown_delay the gateway drains, and exits with 0. Without a signal nobody is told to move.
func TestDrainFollowsShutdownDelay(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, "shutdown_delay: 50ms\n"+gatewaytest.ReloadYAML(upstream.URL, 100))
	stream := openStream(t, g.Process, testkit.Token("u", "free"))
	res, err := http.Get(g.URL + "/usage/client.js")
	if err != nil || res.Close {
		t.Errorf("before the signal: %v %v; want no Connection: close", res, err)
	}
	res.Body.Close()
	g.Signal(syscall.SIGTERM)
	g.WaitForText("draining")
	if text := g.Output(); !strings.Contains(text, leaving) {
		t.Errorf("the log does not say that the gateway leaves:\n%s", text)
	}
	if code := g.Wait(); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
	stream.next()
	if got := stream.next(); got != -1 {
		t.Errorf("the stream goes on: %d", got)
	}
}

// A usageStream reads a stream of usage.
type usageStream struct {
	t     *testing.T
	lines *bufio.Scanner
}

func openStream(t *testing.T, g *gatewaytest.Process, token string) *usageStream {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", g.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return &usageStream{t, bufio.NewScanner(res.Body)}
}

// next returns the units used that the next event shows; -1: the stream has ended.
func (s *usageStream) next() int64 {
	for s.lines.Scan() {
		if data, ok := strings.CutPrefix(s.lines.Text(), "data: {\"user\""); ok {
			var u quota.Usage
			if err := json.Unmarshal([]byte("{\"user\""+data), &u); err != nil {
				s.t.Fatal(err)
			}
			return u.Used
		}
	}
	return -1
}
