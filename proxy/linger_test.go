package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// refuseUnread answers 413 without reading the request's body.
func refuseUnread(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close") // otherwise net/http reads it
	w.WriteHeader(http.StatusRequestEntityTooLarge)
	io.WriteString(w, "too ")
	if r.URL.RawQuery != "length" {
		w.(http.Flusher).Flush() // chunked
	}
	io.WriteString(w, "large")
}

// newRefusingGateway returns a gateway that has something against every request: the user
// "full" has no unit left, and the upstream refuses what the user "free" sends.
func newRefusingGateway(t *testing.T, change func(*proxy.Options)) *testGateway {
	r := newTestGateway(t, setup{maxBody: 8 << 20, change: change, upstream: func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			refuseUnread(w, r)
		}
	}})
	if res := r.do(token("full", "one"), "POST", "/api/analyze", nil); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	return r
}

// earlyAnswers are requests to newRefusingGateway that are answered before their body is
// read.
var earlyAnswers = []struct {
	name, token, line string
	size, status      int
}{
	{"no token", "", "POST /api/analyze", 4 << 20, 401},
	{"no route", token("free", ""), "POST /nowhere", 4 << 20, 404},
	{"no method", token("free", ""), "PUT /api/analyze", 4 << 20, 405},
	{"path", token("free", ""), "POST /api//analyze", 4 << 20, 400},
	{"too large", token("free", ""), "POST /api/analyze", 9 << 20, 413},
	{"quota", token("full", "one"), "POST /api/analyze", 8 << 20, 429},
	{"usage", token("free", ""), "GET /usage", 4 << 20, 200},
	{"upstream, with a length", token("free", ""), "POST /api/analyze?length", 8 << 20, 413},
	{"upstream, chunked", token("free", ""), "POST /api/analyze?chunked", 8 << 20, 413},
}

// TestEarlyAnswerReachesClientThatWritesFirst: a client that reads nothing before it has
// written its whole body gets the answer, although the gateway did not need the body.
func TestEarlyAnswerReachesClientThatWritesFirst(t *testing.T) {
	r := newRefusingGateway(t, nil)
	secure := httptest.NewTLSServer(r.handler)
	t.Cleanup(secure.Close)
	for _, c := range earlyAnswers {
		for _, how := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/1.1 chunked", "HTTP/1.1 TLS"} {
			if c.name == "too large" && how == "HTTP/1.1 chunked" {
				continue // its size is not known before it is read
			}
			t.Run(c.name+", "+how, func(t *testing.T) {
				t.Parallel()
				version, transfer, _ := strings.Cut(how, " ")
				var conn net.Conn = r.dial()
				if transfer == "TLS" {
					var err error
					if conn, err = tls.Dial("tcp", secure.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err != nil {
						t.Fatal(err)
					}
					conn.SetDeadline(time.Now().Add(30 * time.Second))
					defer conn.Close()
				}
				framing, body := fmt.Sprintf("Content-Length: %d", c.size), make([]byte, c.size)
				if transfer == "chunked" {
					framing, body = "Transfer-Encoding: chunked", slices.Concat(fmt.Appendf(nil, "%x\r\n", c.size), body, []byte("\r\n0\r\n\r\n"))
				}
				request := fmt.Sprintf("%s %s\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n", c.line, version, c.token, framing)
				if _, err := conn.Write(append([]byte(request), body...)); err != nil {
					t.Errorf("writing the request: %v", err)
				}
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				if res.StatusCode != c.status || err != nil || len(text) == 0 || !res.Close {
					t.Errorf("%s, closing %v, error %v: %s", res.Status, res.Close, err, text)
				}
			})
		}
	}
}

// TestEarlyAnswerReachesPython: http.client of Python's standard library, and with it
// urllib and requests, write first and then read.
func TestEarlyAnswerReachesPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("METERGATE_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	const script = `
import http.client, sys
address, path, token, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
c = http.client.HTTPConnection(address, timeout=30)
c.request("POST", path, body=b"x" * size, headers={"Authorization": "Bearer " + token})
r = c.getresponse()
print(r.status, len(r.read()) > 0, r.will_close)
`
	r := newRefusingGateway(t, nil)
	for _, c := range earlyAnswers {
		method, path, _ := strings.Cut(c.line, " ")
		if method != "POST" {
			continue
		}
		out, err := exec.CommandContext(t.Context(), python, "-c", script, r.gateway.Listener.Addr().String(), path, c.token, fmt.Sprint(c.size)).CombinedOutput()
		if want := fmt.Sprint(c.status, " True True\n"); string(out) != want || err != nil {
			t.Errorf("%s: %s, error %v, want %s", c.name, out, err, want)
		}
	}
}

// TestEarlyAnswerEndsBeforeBodyDoes: a client that holds its body back reads the answer to
// the end of the connection. What it sends later is thrown away, and does no harm.
func TestEarlyAnswerEndsBeforeBodyDoes(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newRefusingGateway(t, func(o *proxy.Options) { o.Metrics = proxy.NewMetrics(registry) })
	for _, c := range earlyAnswers {
		t.Run(c.name, func(t *testing.T) {
			conn := r.dial()
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", c.line, c.token, c.size)
			text, err := io.ReadAll(conn)
			if want := fmt.Sprintf("HTTP/1.1 %d ", c.status); !strings.HasPrefix(string(text), want) || err != nil {
				t.Errorf("%.100q, error %v", text, err)
			}
			if n := series(t, registry)["metergate_requests_in_flight"]; n != 1 {
				t.Errorf("%v requests are in flight while one lingers", n)
			}
			if _, err := conn.Write(make([]byte, c.size)); err != nil {
				t.Error(err)
			}
			testkit.Eventually(t, "the end of the request", func() bool { return series(t, registry)["metergate_requests_in_flight"] == 0 })
		})
	}
}

// TestSmallBodyHeldBackAfterEarlyAnswer: a client that holds back a body which the upstream
// did not wait for does not keep its connection.
func TestSmallBodyHeldBackAfterEarlyAnswer(t *testing.T) {
	r := newTestGateway(t, setup{upstream: refuseUnread})
	r.handler.SetBounds(time.Minute, 200*time.Millisecond)
	for _, query := range []string{"?length", "?chunked"} {
		for _, framing := range []string{"Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"} {
			conn := r.dial()
			fmt.Fprintf(conn, "POST /api/analyze%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s", query, token("free", ""), framing)
			if text, err := io.ReadAll(conn); !strings.HasPrefix(string(text), "HTTP/1.1 413 ") || err != nil {
				t.Errorf("%s, %q: %.100q, error %v", query, framing, text, err)
			}
		}
	}
	r.want("free", "", 0)
}

// TestNoContinueBeforeEarlyAnswer: a client that waits for "100 Continue" gets the final
// answer instead, and the end of the connection, because its body will not be read.
func TestNoContinueBeforeEarlyAnswer(t *testing.T) {
	r := newRefusingGateway(t, nil)
	for _, c := range earlyAnswers {
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d", c.size), "Content-Length: 5", "Transfer-Encoding: chunked"} {
			if c.name == "too large" && framing != fmt.Sprintf("Content-Length: %d", c.size) {
				continue
			}
			t.Run(c.name+", "+framing, func(t *testing.T) {
				conn := r.dial()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\n%s\r\n\r\n", c.line, c.token, framing)
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || res.StatusCode != c.status || !res.Close {
					t.Fatalf("%+v, error %v", res, err)
				}
				if text, err := io.ReadAll(res.Body); len(text) == 0 || err != nil {
					t.Errorf("%q, error %v", text, err)
				}
			})
		}
	}
}

// TestLingeringIsBoundedInBytes: a client may send more than the gateway reads. The
// connection is then closed.
func TestLingeringIsBoundedInBytes(t *testing.T) {
	r := newTestGateway(t, setup{maxBody: 1000})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<40)
	sent, piece := 0, bytes.Repeat([]byte("x"), 1<<20)
	for sent < 1<<30 {
		n, err := conn.Write(piece)
		sent += n
		if err != nil {
			break
		}
	}
	if sent < 64<<20 || sent >= 1<<30 {
		t.Errorf("%d bytes were taken", sent)
	}
}

// TestLingeringCountsInFlight: a client whose body is still read occupies a place, one of
// those for strangers if it has no good token. If none is free, nothing is read.
func TestLingeringCountsInFlight(t *testing.T) {
	arrived, release := make(chan bool, 10), make(chan bool)
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/lookup/1" {
				arrived <- true
				<-release
			}
		},
		change: func(o *proxy.Options) { o.MaxInFlight = 8 }, // 2 for strangers
	})
	linger := func(token string, status int) net.Conn {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n", token)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != status {
			t.Fatal(res, err)
		}
		return conn
	}
	for range 5 {
		linger("nonsense", 401)
	}
	if res := r.do("", "GET", "/api/health", nil); res.StatusCode != 503 {
		t.Errorf("while two strangers linger: %s", res.Status)
	}
	one := token("full", "one")
	if res := r.do(one, "POST", "/api/analyze", nil); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	full := linger(one, 429)
	var calls []call
	for i := range 8 {
		calls = append(calls, call{token(fmt.Sprint("u", i), ""), "GET", "/api/lookup/1"})
	}
	r.rush(calls, 503, 5, arrived)
	full.Close()
	close(release)
	testkit.Eventually(t, "a place", func() bool { return r.do(one, "GET", "/api/status", nil).StatusCode == 200 })
}

// TestEarlyAnswerReachesNode: Node's http, and its fetch, get the answer during an upload.
func TestEarlyAnswerReachesNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("METERGATE_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	const script = `
const [url, token, size] = process.argv.slice(1)
const options = { method: "POST", headers: { Authorization: "Bearer " + token } }
const body = Buffer.alloc(Number(size))
const { status } = await fetch(url, { ...options, body })
const { request } = await import("node:http")
const early = await new Promise((resolve, reject) => {
  const r = request(url, options, (res) => { res.resume(); res.on("end", () => resolve(res.statusCode)) })
  r.on("error", reject)
  r.end(body)
})
console.log(status, early)
process.exit()
`
	r := newRefusingGateway(t, nil)
	for _, c := range earlyAnswers {
		method, path, _ := strings.Cut(c.line, " ")
		if method != "POST" {
			continue
		}
		out, err := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script, r.gateway.URL+path, c.token, fmt.Sprint(c.size)).CombinedOutput()
		if want := fmt.Sprintln(c.status, c.status); string(out) != want || err != nil {
			t.Errorf("%s: %s, error %v, want %s", c.name, out, err, want)
		}
	}
}
