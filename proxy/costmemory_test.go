package proxy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// pipes is an upstream of streams that the test writes, without connections.
type pipes struct {
	mu   sync.Mutex
	open []*io.PipeWriter
}

func (p *pipes) RoundTrip(r *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, w)
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Body: body, Request: r,
		Header: http.Header{"Content-Type": {eventType}}}, nil
}

// A sink is a client that takes everything.
type sink http.Header

func (s sink) Header() http.Header         { return http.Header(s) }
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) WriteHeader(int)             {}

// memoryOfStreams is how many bytes each of a thousand open streams of a route takes.
func memoryOfStreams(t *testing.T, g *testGateway, p *pipes, path string) int64 {
	const streams = 1000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := inUse()
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, nil)
			req.Header.Set("Authorization", "Bearer "+token("u", "units"))
			g.handler.ServeHTTP(sink{}, req)
		})
	}
	testkit.Eventually(t, "all streams are open", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.open) == streams
	})
	for _, w := range p.open {
		for range 3 {
			io.WriteString(w, hello) // returns when the gateway has read it
		}
	}
	each := (inUse() - before) / streams
	for _, w := range p.open {
		w.Close()
	}
	all.Wait()
	p.open = nil
	return each
}

// inUse is what heap and stacks hold.
func inUse() int64 {
	var m runtime.MemStats
	for range 3 { // what a pool has is freed by the second, and stacks shrink
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestStreamsThatCountTakeLittleMemory: at most 8 KiB more than others.
func TestStreamsThatCountTakeLittleMemory(t *testing.T) {
	p := &pipes{}
	g := withTokens(t, setup{routes: []proxy.Route{{Pattern: "/plain", Endpoint: "report"}}, change: func(o *proxy.Options) {
		for i := range o.Routes {
			o.Routes[i].Upstream = p
		}
	}})
	memoryOfStreams(t, g, p, "/plain") // fills pools and maps
	var plain, counted int64
	for range 5 { // what other tests have left may go meanwhile
		plain, counted = memoryOfStreams(t, g, p, "/plain"), memoryOfStreams(t, g, p, "/tokens/chat")
		if counted-plain <= 8<<10 {
			return
		}
	}
	t.Errorf("a stream that counts tokens takes %d bytes, a plain one %d", counted, plain)
}
