package listeners

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// The gateway tells clients its limits.
func TestHTTP2SettingsAnnounceLimits(t *testing.T) {
	g := gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), "http://127.0.0.1:9")
	c, err := gatewaytest.DialHTTP2(g.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Conn.Close()
	got := map[http2.SettingID]uint32{}
	if err := c.ReadUntil(func(f http2.Frame) bool {
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
		http2.SettingInitialWindowSize:    256 << 10,
		http2.SettingMaxHeaderListSize:    64<<10 + 320, // 32 bytes more for each of ten fields, as HTTP/2 counts
	} {
		if got[id] != want {
			t.Errorf("%v is %d, want %d", id, got[id], want)
		}
	}
	// A browser would open WebSockets over HTTP/2, which cannot be passed on (golang/go#71128).
	if got[http2.SettingEnableConnectProtocol] != 0 {
		t.Error("extended CONNECT is announced")
	}
}

// The gateway serves 250 requests of one connection at once.
func TestHTTP2ConnectionHas250Requests(t *testing.T) {
	a := startAttacked(t, "embedded:data", true)
	c, err := gatewaytest.DialHTTP2(a.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Conn.Close()
	token := testkit.Token("busy", "enterprise")
	for range 300 {
		if _, err := c.SendRequest("POST", "/api/analyze", token, true); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	if err := c.ReadUntil(func(f http2.Frame) bool {
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			refused++
		}
		return refused == 50
	}); err != nil {
		t.Fatal(err)
	}
	testkit.EventuallyWithin(t, time.Minute, "the others are served", func() bool { return a.running.Load() == 250 })
	if n := gatewaytest.RequestsInFlight(t, a.Process); n != 250 {
		t.Errorf("%d requests are running, want 250", n)
	}
	c.Conn.Close()
	a.comesToRest(t)
}

// An upload that the upstream does not read does not hold up the other requests of its
// connection, which may be those of other users behind one load balancer.
func TestHTTP2StalledUploadHoldsUpNoOther(t *testing.T) {
	release := make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "stall" {
			<-release
			return
		}
		io.Copy(w, r.Body)
	}))
	defer upstream.Close()
	defer close(release)
	pair := gatewaytest.ValidKeyPair(t)
	g := gatewaytest.StartTLS(t, pair, upstream.URL)
	client := gatewaytest.TrustingClient(t, pair, true)
	client.Timeout = 30 * time.Second
	post := func(query string, body io.Reader) (proto, text string, err error) {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze"+query, body)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "enterprise"))
		res, err := client.Do(req)
		if err != nil {
			return "", "", err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		return res.Proto, string(answer), err
	}
	if proto, text, err := post("", strings.NewReader("first")); proto != "HTTP/2.0" || text != "first" || err != nil {
		t.Fatalf("%s %q, error %v", proto, text, err)
	}
	stalled := new(countedZeros)
	go post("?stall", io.LimitReader(stalled, 64<<20))
	// Until nothing of it is sent any more. That takes a few megabytes, which the system buffers.
	for before := int64(-1); before != stalled.read.Load() || before == 0; {
		before = stalled.read.Load()
		for range 10 {
			if proto, text, err := post("", strings.NewReader("another")); proto != "HTTP/2.0" || text != "another" || err != nil {
				t.Fatalf("after %d bytes of the upload: %s %q, error %v", before, proto, text, err)
			}
		}
	}
}

// countedZeros is a body that counts what was read of it.
type countedZeros struct{ read atomic.Int64 }

func (z *countedZeros) Read(p []byte) (int, error) {
	clear(p)
	z.read.Add(int64(len(p)))
	return len(p), nil
}
