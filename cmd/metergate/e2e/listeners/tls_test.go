package listeners

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// Over HTTP/1.1 and over HTTP/2, chosen by ALPN, requests are counted and refused in the
// same way, and usage is streamed.
func TestTLSServesHTTP1AndHTTP2(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	}))
	defer upstream.Close()
	p := gatewaytest.ValidKeyPair(t)
	g := gatewaytest.StartTLS(t, p, upstream.URL)
	for version, http2 := range map[int]bool{1: false, 2: true} {
		client, user := gatewaytest.TrustingClient(t, p, http2), fmt.Sprint("user-", version)
		for n := range 100 {
			res, body := gatewaytest.Ask(t, client, "POST", g.URL+"/api/analyze", testkit.Token(user, "free"), strings.NewReader("text"))
			if res.StatusCode != 200 || res.ProtoMajor != version || body != "https" {
				t.Fatalf("%s %s %q", res.Proto, res.Status, body)
			}
			if got, want := res.Header.Get("X-Usage"), fmt.Sprint(n+1, "/100"); got != want {
				t.Fatalf("X-Usage: %s, want %s", got, want)
			}
		}
		// The request is refused at once, while the client still holds its body back.
		held, write := io.Pipe()
		if res, _ := gatewaytest.Ask(t, client, "POST", g.URL+"/api/analyze", testkit.Token(user, "free"), held); res.StatusCode != 429 {
			t.Errorf("HTTP/%d: a request over the limit got %s", version, res.Status)
		}
		write.Close()
		req, _ := http.NewRequest("GET", g.URL+"/usage/stream", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token(user, "free"))
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		events := bufio.NewScanner(res.Body)
		for events.Scan() && !strings.HasPrefix(events.Text(), "data: ") {
		}
		if res.ProtoMajor != version || !strings.Contains(events.Text(), `"used":100,`) {
			t.Errorf("the stream over %s begins with %s", res.Proto, events.Text())
		}
		res.Body.Close()
		if u := g.Usage(client, user); u.Used != 100 || u.InFlight != 0 {
			t.Errorf("HTTP/%d: used %d, in flight %d", version, u.Used, u.InFlight)
		}
	}
}

// The listener refuses versions before TLS 1.2, and plain HTTP.
func TestTLSRefusesOldVersionsAndPlainHTTP(t *testing.T) {
	g := gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), "http://127.0.0.1:9")
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", g.Addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
	status, body := gatewaytest.Get("http://"+g.Addr+"/usage", "")
	if status != 400 || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("plain HTTP got %d %s", status, body)
	}
	if status, _ := gatewaytest.Get(g.Admin+"/livez", ""); status != 200 {
		t.Errorf("the admin listener, which has no TLS, answers %d", status)
	}
}

// The gateway does not speak HTTP/2 without TLS, neither from the first byte nor after an
// upgrade.
func TestH2CIsNotSpoken(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("Upgrade") != "" {
			t.Errorf("the upstream got %s, Upgrade %q", r.Proto, r.Header.Get("Upgrade"))
		}
	}))
	defer upstream.Close()
	g := gatewaytest.StartReloadable(t, upstream.URL)
	send := func(text string) *http.Response {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, text)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return res
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if res := send(preface); res.StatusCode != 400 || !res.Close {
		t.Errorf("the preface got %s, close %v", res.Status, res.Close)
	}
	res := send("GET /usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + testkit.Token("u", "free") +
		"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + preface)
	if res.StatusCode != 200 || res.ProtoMajor != 1 {
		t.Errorf("the upgrade got %s %s", res.Proto, res.Status)
	}
	res = send("POST /api/analyze HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + testkit.Token("u", "free") +
		"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0\r\n\r\n")
	if res.StatusCode != 200 || res.ProtoMajor != 1 {
		t.Errorf("the upgrade of a metered request got %s %s", res.Proto, res.Status)
	}
}

// A request over HTTP/2 that is in flight when the gateway is told to stop still gets its
// response.
func TestDrainAnswersHTTP2Requests(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	defer upstream.Close()
	p := gatewaytest.ValidKeyPair(t)
	g := gatewaytest.StartTLS(t, p, upstream.URL)
	client := gatewaytest.TrustingClient(t, p, true)
	req, _ := http.NewRequest("GET", g.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
	stream, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan string)
	go func() {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze", bytes.NewReader(nil))
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		res, err := client.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		res.Body.Close()
		answered <- res.Status + ", " + res.Header.Get("X-Usage")
	}()
	<-arrived
	g.Signal(syscall.SIGTERM)
	events, err := io.ReadAll(stream.Body) // it ends
	if err != nil || !strings.Contains(string(events), `{"reason":"shutting_down"}`) {
		t.Errorf("the stream ended with %v:\n%s", err, events)
	}
	close(release)
	if got := <-answered; got != "200 OK, 1/100" {
		t.Errorf("the request in flight got %s", got)
	}
	if g.Wait() != 0 {
		t.Errorf("exit status %d", g.Wait())
	}
}
