package listeners

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// Requests that HTTP/2 can carry and HTTP/1.1 cannot are refused, and do not reach the
// upstream.
func TestHTTP2RefusesMalformedRequests(t *testing.T) {
	var reached atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		io.Copy(io.Discard, r.Body)
	}))
	defer upstream.Close()
	g := gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), upstream.URL)
	token := testkit.Token("u", "free")
	const held = "-"
	for name, c := range map[string]struct {
		method, path string
		more         []string // fields
		body         string   // empty: the header ends the request; held: it does not come
		want         string
		reaches      int64
	}{
		"as it should be":             {"POST", "/api/analyze", []string{"content-length", "0"}, "", "200", 1},
		"without a length":            {"POST", "/api/analyze", nil, "", "200", 1},
		"a method with a blank":       {"GET /api/status HTTP/1.1", "/api/status", nil, "", "400", 0},
		"a method with a quote":       {`G"ET`, "/api/status", nil, "", "400", 0},
		"a method that is not ASCII":  {"GÉT", "/api/status", nil, "", "400", 0},
		"a length without a body":     {"POST", "/api/analyze", []string{"content-length", "5"}, "", "400", 0},
		"a length that is no number":  {"POST", "/api/analyze", []string{"content-length", "+0"}, "", "400", 0},
		"two lengths":                 {"POST", "/api/analyze", []string{"content-length", "0", "content-length", "5"}, "", "400", 0},
		"the same length, twice":      {"POST", "/api/analyze", []string{"content-length", "0", "content-length", "0"}, "", "400", 0},
		"a body and its length":       {"POST", "/api/analyze", []string{"content-length", "5"}, "five!", "200", 1},
		"a body without a length":     {"POST", "/api/analyze", nil, "five!", "200", 1},
		"a signed length of a body":   {"POST", "/api/analyze", []string{"content-length", "+5"}, held, "400", 0},
		"a signed zero of a body":     {"POST", "/api/analyze", []string{"content-length", "+0"}, held, "400", 0},
		"a list for a length":         {"POST", "/api/analyze", []string{"content-length", "5, 5"}, held, "400", 0},
		"two lengths of a body":       {"POST", "/api/analyze", []string{"content-length", "5", "content-length", "6"}, held, "400", 0},
		"a length beyond all numbers": {"POST", "/api/analyze", []string{"content-length", "18446744073709551616"}, held, "400", 0},
		"a path that is a whole URL":  {"GET", "https://other/api/status", nil, "", "400", 0},
		"one that is for the gateway": {"GET", "https://gateway/api/status", nil, "", "400", 0},
	} {
		conn, err := gatewaytest.DialHTTP2(g.Addr)
		if err != nil {
			t.Fatal(err)
		}
		before := reached.Load()
		fields := append([]string{":method", c.method, ":scheme", "https", ":authority", "gateway", ":path", c.path, "authorization", "Bearer " + token}, c.more...)
		if err := conn.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: c.body == "", EndHeaders: true, BlockFragment: conn.EncodeHeaders(fields...)}); err != nil {
			t.Fatal(err)
		}
		if c.body != "" && c.body != held {
			if err := conn.WriteData(1, true, []byte(c.body)); err != nil {
				t.Fatal(err)
			}
		}
		// net/http itself may reset the stream of a malformed request.
		status := ""
		err = conn.ReadUntil(func(f http2.Frame) bool {
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				status = h.PseudoValue("status")
			} else if _, reset := f.(*http2.RSTStreamFrame); reset {
				status = "400"
			}
			return status != ""
		})
		if status != c.want || err != nil {
			t.Errorf("%s: status %s, error %v; want %s", name, status, err, c.want)
		}
		if got := reached.Load() - before; got != c.reaches {
			t.Errorf("%s: %d requests have reached the upstream, want %d", name, got, c.reaches)
		}
		conn.Conn.Close()
	}
}
