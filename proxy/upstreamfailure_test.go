package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

func TestUpstreamFailureReleases(t *testing.T) {
	for name, c := range map[string]struct {
		upstream http.HandlerFunc
		timeout  time.Duration
		status   int
	}{
		"cuts the connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, 502},
		"never answers": {func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // net/http notices a client that goes only then
			<-r.Context().Done()
		}, 50 * time.Millisecond, 504},
		"sends no HTTP": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "220 smtp.example.com\r\n")
			conn.Close()
		}, 0, 502},
		"switches protocols unasked": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			conn.Close()
		}, 0, 502},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{upstream: c.upstream, timeout: c.timeout})
			res := r.do(token("u", ""), "POST", "/api/analyze", strings.NewReader("text"))
			if res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("X-Usage") != "0/100" {
				t.Errorf("%s, %s, X-Usage %q: %s", res.Status, res.Header.Get("Content-Type"), res.Header.Get("X-Usage"), res.body)
			}
			if strings.Contains(res.body, r.target.Host) {
				t.Errorf("the answer names the upstream: %s", res.body)
			}
			r.want("u", "", 0)
		})
	}
}

func TestUpstreamDownReleases(t *testing.T) {
	r := newTestGateway(t, setup{})
	r.target.Host = testkit.FreeAddress(t)
	if res := r.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 502 {
		t.Errorf("%s: %s", res.Status, res.body)
	}
	r.want("u", "", 0)
}

// TestTimeoutKeepsConnectionWithoutBody: after a 504, the connection of a request without
// a body still works.
func TestTimeoutKeepsConnectionWithoutBody(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 100 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "slow" {
			<-r.Context().Done()
		}
	}})
	conn := r.dial()
	read := bufio.NewReader(conn)
	for _, method := range []string{"GET", "POST"} {
		for _, query := range []string{"", "?slow", ""} {
			path := map[string]string{"GET": "/api/lookup/7", "POST": "/api/analyze"}[method]
			fmt.Fprintf(conn, "%s %s%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", method, path, query, token("u", ""))
			res, err := http.ReadResponse(read, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			if res.StatusCode == 499 || res.Close || query == "?slow" && res.StatusCode != 504 {
				t.Errorf("%s %s: %s, close %v", method, query, res.Status, res.Close)
			}
		}
	}
}

// TestUpstreamFailureEndsHeldUpload: when the target closes the connection, the client gets
// 502 at once, also if it has yet to send its body.
func TestUpstreamFailureEndsHeldUpload(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}})
	for name, framing := range map[string]string{
		"length":  "Content-Length: 1000\r\n\r\n",
		"part":    "Content-Length: 1000\r\n\r\nthe first bytes",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
		"expect":  "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s", token("u", ""), framing)
		if m, status, err := readResponse(bufio.NewReader(conn), "POST"); err != nil || status != 502 {
			t.Errorf("%s: %+v, error %v", name, m, err)
		}
	}
	client, url := r.http2Client()
	body, write := io.Pipe()
	defer write.Close()
	req, _ := http.NewRequest("POST", url+"/api/analyze", body)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 502 || res.ProtoMajor != 2 {
		t.Errorf("%s %s", res.Proto, res.Status)
	}
	r.want("u", "", 0)
}

// TestHTTP2UpstreamFailureEndsHeldUpload: the same when the target resets the request's
// stream of HTTP/2, or closes the connection.
func TestHTTP2UpstreamFailureEndsHeldUpload(t *testing.T) {
	target := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "close" {
			go r.Context().Value(http.ServerContextKey).(*http.Server).Close()
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	target.EnableHTTP2, target.Config.ErrorLog = true, quiet
	target.StartTLS()
	defer target.Close()
	address, _ := url.Parse(target.URL)
	up, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: address}}, TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Retire()
	r := newTestGateway(t, setup{change: func(o *proxy.Options) {
		for i := range o.Routes {
			o.Routes[i].Upstream = up
		}
	}})
	for _, query := range []string{"?reset", "?close"} {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\nfirst", query, token("u", ""))
		if m, status, err := readResponse(bufio.NewReader(conn), "POST"); err != nil || status != 502 {
			t.Errorf("%s: %+v, error %v", query, m, err)
		}
	}
	r.want("u", "", 0)
}
