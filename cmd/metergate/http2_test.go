package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"metergate/internal/testkit"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

// A rawHTTP2 is a client that sends what frames it likes. One goroutine may write while
// another reads.
type rawHTTP2 struct {
	*http2.Framer
	conn   net.Conn
	block  bytes.Buffer
	encode *hpack.Encoder
	stream uint32 // the next request's
}

// dialHTTP2 opens a connection that gives up after two minutes, and sends the preface
// and settings.
func dialHTTP2(addr string, settings ...http2.Setting) (*rawHTTP2, error) {
	plain, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return newRawHTTP2(plain, settings...)
}

func newRawHTTP2(plain net.Conn, settings ...http2.Setting) (*rawHTTP2, error) {
	conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &rawHTTP2{Framer: http2.NewFramer(conn, conn), conn: conn, stream: 1}
	c.encode = hpack.NewEncoder(&c.block)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		plain.Close()
		return nil, err
	}
	return c, c.WriteSettings(settings...)
}

// fields is a header block; fields are names and values.
func (c *rawHTTP2) fields(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.encode.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// request sends the header of a request and returns its stream. ends: there is no body.
func (c *rawHTTP2) request(method, path, token string, ends bool) (stream uint32, err error) {
	stream = c.stream
	c.stream += 2
	return stream, c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndStream: ends, EndHeaders: true,
		BlockFragment: c.fields(":method", method, ":scheme", "https", ":authority", "gateway", ":path", path, "authorization", "Bearer "+token),
	})
}

// read reads frames until stop says so, or to the end of the connection. It acknowledges
// nothing.
func (c *rawHTTP2) read(stop func(http2.Frame) bool) error {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		if stop(f) {
			return nil
		}
	}
}

// ping reads until a ping is answered. False: the connection is closed, or about to be.
func (c *rawHTTP2) ping() (answered bool) {
	c.WritePing(false, [8]byte{})
	err := c.read(func(f http2.Frame) bool {
		p, ok := f.(*http2.PingFrame)
		answered = ok && p.IsAck()
		_, away := f.(*http2.GoAwayFrame)
		return answered || away
	})
	return answered && err == nil
}

// status reads until the answer of a stream, and returns its status.
func (c *rawHTTP2) status(stream uint32) (status string, err error) {
	err = c.read(func(f http2.Frame) bool {
		h, ok := f.(*http2.MetaHeadersFrame)
		if ok && h.StreamID == stream {
			status = h.PseudoValue("status")
		}
		return status != ""
	})
	return status, err
}

// What the gateway says that it takes.
func TestHTTP2Settings(t *testing.T) {
	g := startSecured(t, validPair(t), "http://127.0.0.1:9")
	c, err := dialHTTP2(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	got := map[http2.SettingID]uint32{}
	if err := c.read(func(f http2.Frame) bool {
		s, ok := f.(*http2.SettingsFrame)
		if ok {
			s.ForeachSetting(func(s http2.Setting) error { got[s.ID] = s.Val; return nil })
		}
		return ok
	}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[http2.SettingID]uint32{
		http2.SettingMaxConcurrentStreams: 250,
		http2.SettingMaxFrameSize:         16 << 10,
		http2.SettingMaxHeaderListSize:    64<<10 + 320, // 32 bytes more for each of ten fields, as HTTP/2 counts
	} {
		if got[id] != want {
			t.Errorf("%v is %d, want %d", id, got[id], want)
		}
	}
}

// An attacked gateway has an upstream that knows how often it has answered 2xx.
type attacked struct {
	*secured
	sent, running atomic.Int64
	hang          bool // until the request is cancelled
}

func startAttacked(t *testing.T, store string, hang bool) *attacked {
	a := &attacked{hang: hang}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.running.Add(1)
		defer a.running.Add(-1)
		io.Copy(io.Discard, r.Body)
		switch {
		case r.URL.RawQuery == "bystander":
		case a.hang:
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		default:
			a.sent.Add(1)
		}
		io.WriteString(w, "ok")
	}))
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(upstream.Close)
	a.secured = startSecured(t, validPair(t), upstream.URL, "embedded:data", store)
	return a
}

// bystander has somebody else make calls, each of which must be served, until the
// function that it returns is called. That returns how many there were.
func (a *attacked) bystander() (stop func() int) {
	client, done, calls := trusting(a.t, a.pair, true), make(chan struct{}), 0
	var wait sync.WaitGroup
	wait.Go(func() {
		for ; ; calls++ {
			select {
			case <-done:
				return
			default:
			}
			req, _ := http.NewRequest("POST", a.url+"/api/analyze?bystander", nil)
			req.Header.Set("Authorization", "Bearer "+testkit.Token("bystander", "enterprise"))
			res, err := client.Do(req)
			if err != nil || res.StatusCode != 200 {
				a.t.Errorf("a bystander got %v, error %v", res, err)
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
	return func() int { close(done); wait.Wait(); return calls }
}

// comesToRest waits until nothing of what was sent goes on.
func (a *attacked) comesToRest(t *testing.T) {
	t.Helper()
	testkit.EventuallyWithin(t, time.Minute, "the upstream has nothing to do", func() bool { return a.running.Load() == 0 })
	testkit.EventuallyWithin(t, time.Minute, "the gateway has nothing to do", func() bool { return a.requestsRunning(t) == 0 })
}

// requestsRunning is how many requests the gateway is serving.
func (g *secured) requestsRunning(t *testing.T) (n int) {
	t.Helper()
	_, body := get(g.admin+"/metrics", "")
	_, after, _ := strings.Cut(body, "\nmetergate_requests_in_flight ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Requests that are reset at once, in a loop (CVE-2023-44487), and streams that the
// gateway is brought to reset (CVE-2025-8671): in the end nothing is held, no more is
// counted than the upstream has sent, and others are served meanwhile.
func TestRapidReset(t *testing.T) {
	byClient := func(c *rawHTTP2, stream uint32) error { return c.WriteRSTStream(stream, http2.ErrCodeCancel) }
	byGateway := func(c *rawHTTP2, stream uint32) error { // for a window that overflows
		err := c.WriteWindowUpdate(stream, 1<<31-1)
		return errors.Join(err, c.WriteWindowUpdate(stream, 1<<31-1))
	}
	redis := func(t *testing.T) string { return redistest.Start(t).URL() }
	embedded := func(*testing.T) string { return "embedded:data" }
	for name, c := range map[string]struct {
		reset func(c *rawHTTP2, stream uint32) error
		store func(*testing.T) string
		hang  bool // the upstream answers nothing
	}{
		"by the client, embedded, no answers": {byClient, embedded, true},
		"by the client, Redis":                {byClient, redis, false},
		"by the gateway, embedded":            {byGateway, embedded, false},
		"by the gateway, Redis, no answers":   {byGateway, redis, true},
	} {
		t.Run(name, func(t *testing.T) { testRapidReset(t, c.store(t), c.hang, c.reset) })
	}
}

func testRapidReset(t *testing.T, store string, hang bool, reset func(c *rawHTTP2, stream uint32) error) {
	const requests = 10_000
	a := startAttacked(t, store, hang)
	before := peakMemory(t, a.process)
	stop := a.bystander()
	token, connections, running := testkit.Token("attacker", "enterprise"), 0, 0
	for left := requests; left > 0; connections++ {
		c, err := dialHTTP2(a.addr)
		if err != nil {
			t.Fatal(err)
		}
		// All that was sent has been read when a ping is answered. Who is told to go
		// away comes again.
		for answered := true; answered && left > 0; {
			for range min(left, 500) {
				stream, err := c.request("POST", "/api/analyze", token, true)
				if err == nil {
					err = reset(c, stream)
				}
				if err != nil {
					break
				}
				left--
			}
			answered = c.ping()
			running = max(running, a.requestsRunning(t))
		}
		c.conn.Close()
	}
	calls := stop()
	a.comesToRest(t)
	var u quota.Usage
	client := trusting(t, a.pair, true)
	testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool { // which is long before a lease runs out
		u = quota.Usage{InFlight: -1}
		_, body := askAs(t, client, "GET", a.url+"/usage", token, nil)
		json.Unmarshal([]byte(body), &u)
		return u.InFlight == 0
	})
	_, metrics := get(a.admin+"/metrics", "")
	reserves := regexp.MustCompile(`metergate_store_duration_seconds_count{operation="reserve"} (\d+)`).FindStringSubmatch(metrics)
	grown := peakMemory(t, a.process) - before
	t.Logf("%d connections, %d running at most, %s reserves, %d sent, %d counted, %d calls of a bystander, %d KiB more memory",
		connections, running, reserves[1], a.sent.Load(), u.Used, calls, grown>>10)
	if running > connections*250+1 { // the bystander's
		t.Errorf("%d requests were running, on %d connections", running, connections)
	}
	if u.Used > a.sent.Load() {
		t.Errorf("counted %d; the upstream has sent %d", u.Used, a.sent.Load())
	}
	if calls == 0 {
		t.Error("nobody else was served")
	}
	if grown > (48+16*connections)<<20 {
		t.Errorf("it took %d MiB of memory", grown>>20)
	}
	if !strings.Contains(metrics, "\nmetergate_unsettled_total 0\n") {
		t.Error("a request was not settled")
	}
}

// Frames that cost a client little, by the hundred thousand. Either the gateway takes
// them and goes on, or it closes the connection; in both cases it needs little memory,
// and counts what it should.
func TestHTTP2Floods(t *testing.T) {
	const frames = 100_000
	a := startAttacked(t, "embedded:data", false)
	token := testkit.Token("flood", "enterprise")
	used := int64(0)
	good := func(c *rawHTTP2) (string, error) { // a request, and what it got
		stream, err := c.request("POST", "/api/analyze", token, true)
		if err != nil {
			return "", err
		}
		used++
		return c.status(stream)
	}
	unfinished := func(c *rawHTTP2) error { // the first half of a request
		_, err := c.request("POST", "/api/analyze", token, false)
		return err
	}
	many := func(write func(i int) error) error { return repeat(frames, write) }
	large := strings.Repeat("x", 16_000)
	for _, flood := range []struct {
		name   string
		closes bool // the gateway closes the connection; else it answers the request that follows
		send   func(c *rawHTTP2) error
	}{
		// Nobody reads the answers: they fill what the system buffers, then pile up.
		// Those to settings do not, one answer is for all that came before it.
		{"PING", true, func(c *rawHTTP2) error {
			return repeat(100*frames, func(int) error { return c.WritePing(false, [8]byte{}) })
		}},
		{"SETTINGS", false, func(c *rawHTTP2) error {
			return heard(c, many, func(int) error { return c.WriteSettings() })
		}},
		// CVE-2023-45288: a header that does not end, in small and in large pieces.
		{"CONTINUATION", true, func(c *rawHTTP2) error {
			if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(":method", "POST")}); err != nil {
				return err
			}
			return many(func(i int) error { return c.WriteContinuation(1, false, c.fields(fmt.Sprint("x-", i), "y")) })
		}},
		{"large CONTINUATION", true, func(c *rawHTTP2) error {
			if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(":method", "POST")}); err != nil {
				return err
			}
			return many(func(int) error { return c.WriteContinuation(1, false, []byte(large)) })
		}},
		// A block that is small only while it is compressed: one field, a thousand times.
		{"compressed header", false, func(c *rawHTTP2) error {
			fields := []string{":method", "POST", ":scheme", "https", ":authority", "gateway", ":path", "/api/analyze", "authorization", "Bearer " + token}
			for range 1000 {
				fields = append(fields, "x", large[:4000])
			}
			block := c.fields(fields...)
			if len(block) > 16<<10 {
				return errors.New("it is not small")
			}
			stream := c.stream
			c.stream += 2
			if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: true, EndHeaders: true, BlockFragment: block}); err != nil {
				return err
			}
			if status, err := c.status(stream); status != "431" {
				t.Errorf("it got %q, error %v", status, err)
			}
			return nil
		}},
		// A body of nothing.
		{"empty DATA", false, func(c *rawHTTP2) error {
			if err := unfinished(c); err != nil {
				return err
			}
			if err := many(func(int) error { return c.WriteData(1, false, nil) }); err != nil {
				return err
			}
			used++
			if err := c.WriteData(1, true, nil); err != nil {
				return err
			}
			if status, err := c.status(1); status != "200" {
				t.Errorf("it got %q, error %v", status, err)
			}
			return nil
		}},
		{"PRIORITY", false, func(c *rawHTTP2) error {
			return many(func(i int) error { return c.WritePriority(uint32(2*i+1001), http2.PriorityParam{StreamDep: 1}) })
		}},
		{"WINDOW_UPDATE", false, func(c *rawHTTP2) error { return many(func(int) error { return c.WriteWindowUpdate(0, 1) }) }},
		{"unknown frames", false, func(c *rawHTTP2) error { return many(func(int) error { return c.WriteRawFrame(0xbe, 0, 0, nil) }) }},
		{"ORIGIN of a client", false, func(c *rawHTTP2) error { return many(func(int) error { return c.WriteRawFrame(0x0c, 0, 0, nil) }) }},
		{"a frame too large", true, func(c *rawHTTP2) error { return c.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16<<10+1)) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			before := peakMemory(t, a.process)
			c, err := dialHTTP2(a.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.conn.Close()
			err = flood.send(c)
			if flood.closes {
				// To the end: first what was on its way.
				if err == nil {
					err = c.read(func(http2.Frame) bool { return false })
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection stays open")
				}
			} else if status, goodErr := good(c); err != nil || status != "200" {
				t.Errorf("error %v; after it a request got %q, error %v", err, status, goodErr)
			}
			if grown := peakMemory(t, a.process) - before; grown > 48<<20 {
				t.Errorf("it took %d MiB of memory", grown>>20)
			}
		})
	}
	a.comesToRest(t)
	client := trusting(t, a.pair, true)
	_, body := askAs(t, client, "GET", a.url+"/usage", token, nil)
	if want := fmt.Sprintf(`"used":%d,`, used); used < 5 || a.sent.Load() != used || !strings.Contains(body, want) || !strings.Contains(body, `"in_flight":0,`) {
		t.Errorf("the upstream has sent %d, and counted is %s; want %d", a.sent.Load(), body, used)
	}
}

// heard writes many frames, and reads what is answered meanwhile.
func heard(c *rawHTTP2, many func(func(int) error) error, write func(int) error) error {
	last := [8]byte{1}
	read := make(chan error, 1)
	go func() {
		read <- c.read(func(f http2.Frame) bool {
			p, ok := f.(*http2.PingFrame)
			return ok && p.IsAck() && p.Data == last
		})
	}()
	if err := errors.Join(many(write), c.WritePing(false, last)); err != nil {
		return err
	}
	return <-read
}

// repeat calls f n times, or until it fails.
func repeat(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// Of one connection 250 requests are served at once.
func TestHTTP2Concurrency(t *testing.T) {
	a := startAttacked(t, "embedded:data", true)
	c, err := dialHTTP2(a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	token := testkit.Token("busy", "enterprise")
	for range 300 {
		if _, err := c.request("POST", "/api/analyze", token, true); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	if err := c.read(func(f http2.Frame) bool {
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			refused++
		}
		return refused == 50
	}); err != nil {
		t.Fatal(err)
	}
	testkit.EventuallyWithin(t, time.Minute, "the others are served", func() bool { return a.running.Load() == 250 })
	if n := a.requestsRunning(t); n != 250 {
		t.Errorf("%d requests are running, want 250", n)
	}
	c.conn.Close()
	a.comesToRest(t)
}
