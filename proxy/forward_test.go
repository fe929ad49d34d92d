package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy"
)

// TestIdentityHeadersCannotBeForged: the upstream is told who the user is, and no client
// can set these headers, on any route and in any spelling.
func TestIdentityHeadersCannotBeForged(t *testing.T) {
	r := newTestGateway(t, setup{routes: []proxy.Route{
		{Pattern: "POST /who", Endpoint: "lookup", UserHeader: "X-User-Id", PlanHeader: "X-User-Plan"},
		{Pattern: "POST /open", Public: true},
	}})
	lies := []string{"X-User-Id: admin", "x_user_id: admin", "X_USER-Id: admin", "X-User-Plan: enterprise", "x-user_plan: enterprise"}
	r.do(token("u-17@example.com", "one"), "POST", "/who", strings.NewReader("text"), lies...)
	got := r.requests()[0].Header
	if fmt.Sprint(got["X-User-Id"]) != "[u-17@example.com]" || fmt.Sprint(got["X-User-Plan"]) != "[one]" {
		t.Errorf("the upstream got %v", got)
	}
	for _, path := range []string{"/who", "/open", "/api/analyze"} {
		before := len(r.requests())
		r.do(token("v", ""), "POST", path, strings.NewReader("text"), append(lies, "Connection: X-User-Id, X-User-Plan")...)
		for name, values := range r.requests()[before].Header {
			if strings.Contains(fmt.Sprint(values), "admin") || strings.Contains(fmt.Sprint(values), "enterprise") {
				t.Errorf("%s: a client's %s: %v reached the upstream", path, name, values)
			}
		}
	}
	if got := r.requests()[1].Header.Get("X-User-Id"); got != "v" {
		t.Errorf("Connection: X-User-Id left %q", got)
	}
	// Characters that no header may have are percent-encoded, and so is the percent sign.
	for user, want := range map[string]string{"日本 100%": "%E6%97%A5%E6%9C%AC%20100%25", "a b": "a%20b", "50%": "50%25"} {
		before := len(r.requests())
		r.do(token(user, ""), "POST", "/who", nil)
		if got := r.requests()[before].Header.Get("X-User-Id"); got != want {
			t.Errorf("the user %s is sent as %q, want %q", user, got, want)
		}
	}
	// A trailer must not get through either.
	conn := r.dial()
	before := len(r.requests())
	fmt.Fprintf(conn, "POST /open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n2\r\nhi\r\n0\r\nX-User-Id: admin\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	if _, announced := r.requests()[before].Trailer["X-User-Id"]; announced {
		t.Error("a trailer with a client's user reached the upstream")
	}
}

func TestDropAuthorizationKeepsTokenFromUpstream(t *testing.T) {
	r := newTestGateway(t, setup{routes: []proxy.Route{{Pattern: "POST /dropped", Endpoint: "lookup", DropAuthorization: true}}})
	r.do(token("u", ""), "POST", "/dropped", nil)
	r.do(token("u", ""), "POST", "/api/analyze", nil)
	if got := r.requests()[0].Header.Get("Authorization"); got != "" {
		t.Error("the token reached an upstream whose route drops it")
	}
	if got := r.requests()[1].Header.Get("Authorization"); !strings.HasPrefix(got, "Bearer ") {
		t.Errorf("the token did not reach the other upstream: %q", got)
	}
}

func TestStripPrefixCutsSegments(t *testing.T) {
	r := newTestGateway(t, setup{routes: []proxy.Route{
		{Pattern: "GET /v1/files/{rest...}", Endpoint: "lookup", StripPrefix: "/v1"},
		{Pattern: "GET /whole/{$}", Endpoint: "lookup", StripPrefix: "/whole"},
		{Pattern: "GET /exact", Endpoint: "lookup", StripPrefix: "/exact"},
		{Pattern: "GET /a;b/{rest...}", Endpoint: "lookup", StripPrefix: "/a;b"},
	}})
	for path, want := range map[string]string{
		"/v1/files/a%20b%C3%A4/c?q=/v1/x": "/files/a%20b%C3%A4/c?q=/v1/x",
		"/v1/files/v1/v1":                 "/files/v1/v1",
		"/whole/":                         "/",
		"/exact":                          "/",
		"/a;b/c":                          "/c",
		"/a%3Bb/c":                        "/c",
	} {
		before := len(r.requests())
		res := r.do(token("u", ""), "GET", path, nil)
		if res.StatusCode != 200 || r.requests()[before].RequestURI != want {
			t.Errorf("%s: %s, sent as %s, want %s", path, res.Status, r.requests()[before].RequestURI, want)
		}
	}
}

// TestUpgradeIsForwardedWhereAllowed: a route that allows it switches protocols, and
// nothing of that is metered. h2c is never forwarded.
func TestUpgradeIsForwardedWhereAllowed(t *testing.T) {
	r := newTestGateway(t, setup{
		routes: []proxy.Route{{Pattern: "GET /socket", Upgrade: true}},
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				io.WriteString(w, "plain")
				return
			}
			conn, buffered, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, _ := buffered.ReadString('\n')
			io.WriteString(conn, "you said "+line)
		},
	})
	send := func(protocol string) (*http.Response, *bufio.Reader, io.Writer) {
		conn := r.dial()
		fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", token("u", ""), protocol)
		read := bufio.NewReader(conn)
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatal(err)
		}
		return res, read, conn
	}
	res, read, write := send("echo")
	if res.StatusCode != 101 {
		t.Fatal(res.Status)
	}
	io.WriteString(write, "hello\n")
	if line, err := read.ReadString('\n'); line != "you said hello\n" {
		t.Errorf("%q, error %v", line, err)
	}
	if res, _, _ := send("h2c"); res.StatusCode != 200 {
		t.Errorf("h2c: %s, want the plain answer", res.Status)
	}
	if res := r.do("", "GET", "/socket", nil, "Connection: Upgrade", "Upgrade: echo"); res.StatusCode != 401 {
		t.Errorf("without a token: %s", res.Status)
	}
	if _, err := proxy.New(func() proxy.Options {
		o := r.options
		o.Routes = append(o.Routes, proxy.Route{Pattern: "GET /metered", Endpoint: "lookup", Upgrade: true})
		return o
	}()); err == nil {
		t.Error("an upgrade on a metered route was accepted")
	}
}
