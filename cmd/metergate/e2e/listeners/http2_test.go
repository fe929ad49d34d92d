package listeners

import (
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
		http2.SettingMaxHeaderListSize:    64<<10 + 320, // 32 bytes more for each of ten fields, as HTTP/2 counts
	} {
		if got[id] != want {
			t.Errorf("%v is %d, want %d", id, got[id], want)
		}
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
