package issuers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

// Tokens with a user's groups are large: up to 10.8 KiB from Entra. One of 16 KiB reaches the
// upstream as it was sent, beside other large headers, over both versions of HTTP.
func TestTokenOf16KiBReachesTheUpstream(t *testing.T) {
	seen := make(chan string, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization") + " " + r.Header.Get("X-Large")
	}))
	t.Cleanup(upstream.Close)
	pair := gatewaytest.ValidKeyPair(t)
	text := authYAML(upstream.URL, fmt.Sprintf("secret: %q", secret))
	g := gatewaytest.StartTLS(t, pair, upstream.URL, gatewaytest.ReloadYAML(upstream.URL, 100), text)

	good, long := tokenOf(t, 16<<10), tokenOf(t, 16<<10+4)
	large := strings.Repeat("x", 32<<10)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := gatewaytest.TrustingClient(t, pair, protocol == "HTTP/2.0")
		send := func(token string) *http.Response {
			t.Helper()
			req, err := http.NewRequest("POST", g.URL+"/api/analyze", strings.NewReader("text"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("X-Large", large)
			res, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", protocol, err)
			}
			res.Body.Close()
			return res
		}
		res := send(good)
		if res.StatusCode != 200 || res.Proto != protocol {
			t.Fatalf("a token of 16 KiB: %s over %s, want 200 over %s", res.Status, res.Proto, protocol)
		}
		if got := <-seen; got != "Bearer "+good+" "+large {
			t.Errorf("%s: the upstream got %d bytes, not the token", protocol, len(got))
		}
		if res := send(long); res.StatusCode != 401 || !strings.Contains(res.Header.Get("WWW-Authenticate"), "it may have 16384 bytes") {
			t.Errorf("a token of more than 16 KiB over %s: %s, %q", protocol, res.Status, res.Header.Get("WWW-Authenticate"))
		}
	}
}

// tokenOf returns a token of this many bytes.
func tokenOf(t *testing.T, size int) string {
	t.Helper()
	for fill := size*3/4 - 200; fill < size*3/4; fill++ {
		claims := fmt.Sprintf(`{"sub":"u","groups":[%q]}`, strings.Repeat("g", fill))
		for header := `{"alg":"HS256"}`; len(header) < 20; header += " " {
			if token := signToken(header, claims, hs256); len(token) == size {
				return token
			}
		}
	}
	t.Fatalf("there is no token of %d bytes", size)
	return ""
}
