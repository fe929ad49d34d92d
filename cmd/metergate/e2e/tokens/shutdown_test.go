package tokens

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

const (
	hello = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n"
	usage = "data: {\"choices\":[],\"usage\":{\"total_tokens\":4200}}\n\n"
)

// TestShutdownWaitsForTheCost: a client leaves in the middle of a stream, and then the gateway is stopped.
// It reads on until the upstream has reported the cost, even when no connection of a client is left;
// or until shutdown_timeout is over, and then the cost is missing.
func TestShutdownWaitsForTheCost(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, ends := range []bool{true, false} {
			t.Run(fmt.Sprintf("http2 %v, ends %v", http2, ends), func(t *testing.T) {
				t.Parallel()
				testShutdown(t, http2, ends)
			})
		}
	}
}

func testShutdown(t *testing.T, http2, ends bool) {
	more := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, hello)
		w.(http.Flusher).Flush()
		select {
		case <-more:
			io.WriteString(w, usage)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(upstream.Close)
	dir, pair := t.TempDir(), gatewaytest.ValidKeyPair(t)
	text := strings.Replace(tokensYAML, "missing: min", "missing: max", 1) + gatewaytest.TLSLine
	if !ends {
		text = strings.Replace(text, "shutdown_timeout: 30s", "shutdown_timeout: 300ms", 1)
	}
	for name, data := range map[string][]byte{"gateway.yaml": []byte(text), "cert.pem": pair.Cert, "key.pem": pair.Key} {
		testkit.WriteFile(t, filepath.Join(dir, name), data)
	}
	g := gatewaytest.Start(t, []string{"STORE=embedded:" + filepath.Join(dir, "data"), "UPSTREAM=" + upstream.URL}, "serve", "-config", filepath.Join(dir, "gateway.yaml"))
	g.WaitUntilServing()
	addr := strings.TrimPrefix(g.URL, "http://")

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	client := gatewaytest.TrustingClient(t, pair, http2)
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+"/v1/chat/1", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "tokens"))
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	leave()
	client.CloseIdleConnections()

	g.Signal(syscall.SIGTERM)
	testkit.Eventually(t, "it accepts no more connections", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	status, units := 1, int64(8)
	if ends {
		select {
		case <-g.Done():
			t.Error("the gateway did not wait")
		case <-time.After(1500 * time.Millisecond): // longer than net/http takes to see that no connection is left
		}
		close(more)
		status, units = 0, 5
	}
	if got := g.Wait(); got != status {
		t.Errorf("exit status %d, want %d", got, status)
	}
	g = g.Restart()
	_, body := gatewaytest.Ask(t, client, http.MethodGet, strings.Replace(g.URL, "http:", "https:", 1)+"/usage", testkit.Token("u", "tokens"), nil)
	if want := fmt.Sprintf(`"used":%d,`, units); !strings.Contains(body, want) || !strings.Contains(body, `"in_flight":0`) {
		t.Errorf("usage %s, want %s", body, want)
	}
}
