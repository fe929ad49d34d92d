package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/proxy"
)

// TestRawResponses lets an upstream send what testdata/responses has, byte for byte, and
// compares what the client gets. testdata/responses/README.md says how to add a case.
func TestRawResponses(t *testing.T) {
	files, _ := filepath.Glob("testdata/responses/*.txt")
	cases := map[string]*responseCase{}
	for _, file := range files {
		for _, c := range readResponseCases(t, file) {
			cases[c.name] = c
		}
	}
	var log bytes.Buffer
	r := newTestGateway(t, setup{
		upstream: rawAnswer(t, func(req *http.Request) string { return cases[req.URL.Query().Get("case")].send }),
		change:   func(o *proxy.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) },
	})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { c.run(t, r) })
	}
	r.gateway.Close() // all requests have ended
	if strings.Contains(log.String(), "panic") {
		t.Errorf("the log says:\n%s", &log)
	}
}

// rawAnswer is a handler that sends the bytes that answer returns, and closes the connection.
func rawAnswer(t *testing.T, answer func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, answer(req))
	}
}

// A responseCase is one response of testdata/responses.
type responseCase struct {
	name   string
	method string
	send   string
	expect []expectedResponse
	cut    bool // the body of the last one breaks off
}

type expectedResponse struct {
	status int
	body   string
	fields []string // "Name: value", or "!Name" for none
}

func (c *responseCase) run(t *testing.T, r *testGateway) {
	user := strings.ReplaceAll(c.name, " ", "-")
	conn := r.dial()
	fmt.Fprintf(conn, "%s /api/lookup/7?case=%s HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer %s\r\nTE: trailers\r\n\r\n",
		c.method, strings.ReplaceAll(c.name, " ", "+"), token(user, ""))
	read := bufio.NewReader(conn)
	var used int64
	for i, want := range c.expect {
		m, status, err := readResponse(read, c.method)
		if m == nil {
			t.Fatalf("response %d: %v, want %d", i+1, err, want.status)
		}
		last := i == len(c.expect)-1
		if cut := errors.Is(err, io.ErrUnexpectedEOF); cut != (last && c.cut) || err != nil && !cut {
			t.Errorf("response %d: error %v", i+1, err)
		}
		if body := strings.TrimRight(m.body, "\x00"); status != want.status || status < 400 && body != want.body {
			t.Errorf("response %d is %s with %q, want %d with %q", i+1, m.start, body, want.status, want.body)
		}
		for _, f := range want.fields {
			if name, ok := strings.CutPrefix(f, "!"); ok {
				if got := m.values(name); got != nil {
					t.Errorf("response %d has %s: %q", i+1, name, got)
				}
			} else if name, value, _ := strings.Cut(f, ": "); !slices.Equal(m.values(name), []string{value}) {
				t.Errorf("response %d has %s: %q, want %q", i+1, name, m.values(name), value)
			}
		}
		if status/100 == 2 {
			used = 1
		}
	}
	r.want(user, "", used)
}

func readResponseCases(t *testing.T, file string) (cases []*responseCase) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c *responseCase
	for i, line := range strings.Split(string(text), "\n") {
		bad := func(why string) { t.Fatalf("%s:%d: %s: %q", file, i+1, why, line) }
		if name, ok := strings.CutPrefix(line, "--- "); ok {
			c = &responseCase{name: strings.TrimSuffix(filepath.Base(file), ".txt") + ": " + name, method: "GET"}
			cases = append(cases, c)
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		if kind == "" || kind == "#" {
			continue
		}
		if c == nil {
			bad("the line belongs to no case")
		}
		rest, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		if err != nil {
			bad(err.Error())
		}
		switch {
		case kind == "?":
			c.method = rest
		case kind == ">":
			c.send += rest + "\r\n"
		case kind == "+":
			c.send += rest
		case kind == "=" && rest == "cut":
			c.cut = true
		case kind == "=":
			status, body, _ := strings.Cut(rest, " ")
			number, err := strconv.Atoi(status)
			if err != nil {
				bad("not a status")
			}
			c.expect = append(c.expect, expectedResponse{status: number, body: body})
		case kind == "&" && len(c.expect) > 0:
			e := &c.expect[len(c.expect)-1]
			e.fields = append(e.fields, rest)
		default:
			bad("unknown")
		}
	}
	return cases
}

// http2Client starts another server for the gateway, which speaks HTTP/2, and returns a
// client for it.
func (r *testGateway) http2Client() (client *http.Client, url string) {
	s := httptest.NewUnstartedServer(r.handler)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = quiet
	s.StartTLS()
	r.t.Cleanup(s.Close)
	return s.Client(), s.URL
}

// net/http's server of HTTP/2 guesses types as that of HTTP/1 does.
func TestNoContentTypeIsAddedWithHTTP2(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<html><script>1</script>")
	}})
	client, url := r.http2Client()
	res, err := client.Get(url + "/api/health")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, ok := res.Header["Content-Type"]; ok || res.ProtoMajor != 2 || res.StatusCode != 404 {
		t.Errorf("%s %s: %v", res.Proto, res.Status, res.Header)
	}
}

// A client that gets nothing on a connection it has used before sends a GET again. A
// response that breaks off must not look like that, because it is counted.
func TestBrokenResponseIsNotRequestedAgain(t *testing.T) {
	r := newTestGateway(t, setup{upstream: rawAnswer(t, func(req *http.Request) string {
		if req.URL.Path == "/api/lookup/good" {
			return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"
	})})
	http2, http2URL := r.http2Client()
	for user, c := range map[string]struct {
		client *http.Client
		url    string
	}{"h1": {&http.Client{Transport: &http.Transport{}}, r.gateway.URL}, "h2": {http2, http2URL}} {
		sent := len(r.requests())
		for _, id := range []string{"good", "short"} {
			req, _ := http.NewRequest("GET", c.url+"/api/lookup/"+id, nil)
			req.Header.Set("Authorization", "Bearer "+token(user, ""))
			res, err := c.client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", user, err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || string(body) != id || (err == nil) != (id == "good") {
				t.Errorf("%s: %s with %q, error %v", user, res.Status, body, err)
			}
		}
		c.client.CloseIdleConnections()
		if n := len(r.requests()) - sent; n != 2 {
			t.Errorf("%s: %d requests reached the upstream, want 2", user, n)
		}
		r.want(user, "", 2)
	}
}

// A target may answer an upload without reading it, and close. The client gets that
// answer, and not an error of the gateway.
func TestEarlyResponseReachesClient(t *testing.T) {
	r := newTestGateway(t, setup{upstream: rawAnswer(t, func(req *http.Request) string {
		return "HTTP/1.1 " + req.URL.RawQuery + " X\r\nConnection: close\r\nContent-Length: 5\r\n\r\nearly"
	})})
	for _, status := range []int{200, 413} {
		user := strconv.Itoa(status)
		for i := range 20 {
			conn := r.dial()
			size := 300 << 10 << (i % 5)
			go func() { // ends when the gateway closes the connection
				fmt.Fprintf(conn, "POST /api/analyze?%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", status, token(user, ""), size)
				io.CopyN(conn, zeros{}, int64(size))
			}()
			m, got, err := readResponse(bufio.NewReader(conn), "POST")
			if err != nil || got != status || m.body != "early" {
				t.Errorf("%d: %+v, error %v", status, m, err)
			}
			conn.Close()
		}
		used := int64(0)
		if status == 200 {
			used = 20
		}
		r.want(user, "", used)
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Informational responses do not end the wait for the final one.
func TestEndlessInformationTimesOut(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 200 * time.Millisecond, upstream: func(w http.ResponseWriter, req *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		defer conn.Close()
		for err := error(nil); err == nil; {
			_, err = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		}
	}})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token("u", ""))
	for read := bufio.NewReader(conn); ; {
		m, status, err := readResponse(read, "POST")
		if status == 103 && err == nil {
			continue
		}
		if status != 504 || err != nil {
			t.Errorf("%+v, error %v", m, err)
		}
		break
	}
	r.want("u", "", 0)
}

// A 101 response has what it takes to switch protocols, and nothing else that belongs to
// the connection.
func TestSwitchOfProtocolsIsCleaned(t *testing.T) {
	r := newTestGateway(t, setup{
		routes: []proxy.Route{{Pattern: "GET /socket", Upgrade: true}},
		upstream: rawAnswer(t, func(*http.Request) string {
			return "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, X-Nominated\r\nUpgrade: chat\r\nX-Nominated: 1\r\n" +
				"Proxy-Authenticate: Basic\r\nKeep-Alive: timeout=5\r\nX-Request-Id: lie\r\nX-Chat: 1\r\n\r\nhello"
		}),
	})
	conn := r.dial()
	fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n", token("u", ""))
	read := bufio.NewReader(conn)
	m, status, err := readResponse(read, "GET")
	if err != nil || status != 101 {
		t.Fatalf("%+v, error %v", m, err)
	}
	for name, want := range map[string][]string{"Connection": {"Upgrade"}, "Upgrade": {"chat"}, "X-Chat": {"1"},
		"X-Nominated": nil, "Proxy-Authenticate": nil, "Keep-Alive": nil} {
		if got := m.values(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if body, err := io.ReadAll(read); string(body) != "hello" {
		t.Errorf("%q, error %v", body, err)
	}
}
