package listeners

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/net/http2"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// Clients without a token that ask for the gateway's files and read none of their bytes
// take none of the places of max_in_flight.
func TestUnreadFilesTakeNoPlaces(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	g := gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), upstream.URL, "log:", "max_in_flight: { total: 4, per_user: 4 }\nlog:")
	c, err := gatewaytest.DialHTTP2(g.Addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Conn.Close()
	const files = 60
	for i := range files {
		path := [...]string{"/usage/client.js", "/usage/client.d.ts", "/usage/meter.js"}[i%3]
		if _, err := c.SendRequest("GET", path, "", true); err != nil {
			t.Fatal(err)
		}
	}
	answered := 0
	if err := c.ReadUntil(func(f http2.Frame) bool {
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			if answered++; h.PseudoValue("status") != "200" {
				t.Errorf("a file got status %s", h.PseudoValue("status"))
			}
		}
		return answered == files
	}); err != nil {
		t.Fatal(err)
	}
	if n := gatewaytest.RequestsInFlight(t, g.Process); n != files {
		t.Fatalf("%d requests are running, want the %d that wait for a window", n, files)
	}
	res, body := gatewaytest.Ask(t, gatewaytest.TrustingClient(t, g.Pair, true), "POST", g.URL+"/api/analyze", testkit.Token("u", "free"), nil)
	if res.StatusCode != 200 {
		t.Errorf("a user got %s: %s", res.Status, body)
	}
}
