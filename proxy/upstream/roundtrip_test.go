package upstream_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"
	"time"

	"metergate/proxy/upstream"
)

// The target sees the path of its URL, followed by the path and query as the client sent
// them.
func TestTargetSeesPathUnchanged(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	paths := []string{
		"/", "/a", "/a/", "/a%20b", "/%C3%A4/b", "/a;v=1/b", "/a:b@c", "/a+b", "/a[1]", "/a%5B1%5D",
		"/a%7Cb", "/%2541", "/(a)/!$&'*,=", "/~a_-.", "/%22%3C%3E",
		"/a?", "/a?b", "/a?b=1;c=%zz&d=[]|", "/a%20b?c=/../%2F", "/a?b=%C3%A4&b=+",
	}
	for prefix, seen := range map[string]string{
		"": "", "/": "", "/api": "/api", "/api/": "/api", "/v1/a%20b": "/v1/a%20b",
		"/%C3%A4": "/%C3%A4", "/a[1]": "/a[1]", "/a%5B1%5D/": "/a%5B1%5D", "/a%2Fb": "/a%2Fb",
	} {
		p := newPool(t, upstream.Options{}, s.URL+prefix)
		for _, path := range paths {
			if got := want(t, p, newRequest("GET", path, "")); got != seen+path {
				t.Errorf("prefix %q, path %q: the target saw %q", prefix, path, got)
			}
		}
	}
}

func TestTargetSeesConfiguredHost(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	own := s.Listener.Addr().String()
	for _, c := range []struct {
		options upstream.Options
		want    string
	}{
		{upstream.Options{}, own},
		{upstream.Options{KeepHost: true}, "client.example"},
		{upstream.Options{Host: "api.internal"}, "api.internal"},
	} {
		if got := want(t, newPool(t, c.options, s.URL), newRequest("GET", "/", "")); got != c.want {
			t.Errorf("%+v: the target saw %q, want %q", c.options, got, c.want)
		}
	}
}

// The request belongs to the caller.
func TestRoundTripDoesNotChangeRequest(t *testing.T) {
	s := serve(t, nil)
	p := newPool(t, upstream.Options{Balance: upstream.RoundRobin, Host: "x"}, refused(t), s.URL+"/api")
	req := newRequest("POST", "/a%20b?c", "text", "A: 1", "X-Idempotency-Key: 1")
	before, u, header, body := *req, *req.URL, fmt.Sprint(req.Header), req.Body
	want(t, p, req)
	if req.Host != before.Host || *req.URL != u || fmt.Sprint(req.Header) != header || req.Body != body || req.GetBody != nil {
		t.Errorf("it was changed to %+v", req)
	}
}

// Whatever happens, the body is closed exactly once.
func TestRequestBodyIsClosedOnce(t *testing.T) {
	alive, broken := serve(t, nil), serve(t, abort)
	health := &upstream.Health{Path: "/nowhere"}
	for name, c := range map[string]struct {
		targets []string
		fields  []string
		ok      bool
	}{
		"answered":           {targets: []string{alive.URL}, ok: true},
		"refused once":       {targets: []string{refused(t), alive.URL}, ok: true},
		"refused":            {targets: []string{refused(t)}},
		"refused twice":      {targets: []string{refused(t), refused(t)}},
		"broken off":         {targets: []string{broken.URL}},
		"never asked for":    {targets: []string{broken.URL}, fields: []string{"Expect: 100-continue"}},
		"cannot be sent":     {targets: []string{alive.URL}, fields: []string{"Bad\x00name: 1"}},
		"answered untouched": {targets: []string{alive.URL}, fields: []string{"Expect: 100-continue"}, ok: true},
	} {
		o := roundRobin
		o.Health = health // not started
		req := newRequest("PUT", "/", "text", c.fields...)
		body := &closing{Reader: req.Body, closed: make(chan bool, 10)}
		req.Body = body
		if _, _, err := send(newPool(t, o, c.targets...), req); (err == nil) != c.ok {
			t.Errorf("%s: error %v", name, err)
		}
		select {
		case <-body.closed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the body is still open", name)
		}
		if len(body.closed) > 0 {
			t.Errorf("%s: the body was closed %d times", name, 1+len(body.closed))
		}
	}
}

type closing struct {
	io.Reader
	closed chan bool
}

func (c *closing) Close() error { c.closed <- true; return nil }

func (c *closing) Read(p []byte) (int, error) {
	if len(c.closed) > 0 {
		return 0, http.ErrBodyReadAfterClose
	}
	return c.Reader.Read(p)
}

// A custom authority, a client certificate, and HTTP/2 by ALPN.
func TestTLSOptionsAreUsed(t *testing.T) {
	certificate, authority := selfSigned(t)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.PeerCertificates[0].Subject.CommonName)
	}, withHTTP2, func(s *httptest.Server) {
		s.TLS = &tls.Config{
			Certificates: []tls.Certificate{certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authority,
		}
	})
	settings := &tls.Config{RootCAs: authority, Certificates: []tls.Certificate{certificate}}
	p := newPool(t, upstream.Options{TLS: settings, Host: "other.example"}, s.URL)
	for range 2 {
		if got := want(t, p, newRequest("POST", "/", "text")); got != "HTTP/2.0 metergate test" {
			t.Errorf("the target saw %q", got)
		}
	}
	if settings.NextProtos != nil {
		t.Error("the configuration was changed")
	}
	for name, other := range map[string]*tls.Config{
		"the system's roots": nil, "no client certificate": {RootCAs: authority},
	} {
		if res, err := newPool(t, upstream.Options{TLS: other}, s.URL).RoundTrip(newRequest("GET", "/", "")); err == nil {
			t.Errorf("%s: %s", name, res.Status)
		}
	}
}

// selfSigned makes a certificate for 127.0.0.1, and a pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "metergate test"},
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// Through httputil.ReverseProxy a connection can be upgraded to another protocol.
func TestUpgradedConnectionIsForwarded(t *testing.T) {
	echo := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.Copy(conn, brw) // until the client has sent everything
		io.WriteString(conn, "end")
	})
	p := newPool(t, upstream.Options{}, echo.URL)
	front := serve(t, (&httputil.ReverseProxy{Transport: p, Rewrite: func(*httputil.ProxyRequest) {}}).ServeHTTP)
	req, _ := http.NewRequest("GET", front.URL, nil)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v, %v", res, err)
	}
	conn := res.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	io.WriteString(conn, "hello\n")
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	if n := p.Targets()[0].InFlight; n != 1 {
		t.Errorf("in flight: %d", n)
	}
	conn.CloseWrite()
	if rest, err := io.ReadAll(r); string(rest) != "end" {
		t.Errorf("%q, %v", rest, err)
	}
	conn.Close()
}

func TestNewReportsAllFaults(t *testing.T) {
	_, err := upstream.New(upstream.Options{})
	if err == nil || err.Error() != "targets: at least one is required" {
		t.Errorf("no target: %v", err)
	}
	heavy := target("http://a")
	heavy.Weight = 1001
	_, err = upstream.New(upstream.Options{
		Targets: []upstream.Target{
			{}, target("ftp://a"), target("http://:80"), target("http://u:secret@a"), target("http://a?b"), heavy, target("http://a"),
		},
		Balance: 9, Host: "a", KeepHost: true, DialTimeout: -1,
		Health: &upstream.Health{Path: "healthz", Interval: -1}, Ejection: upstream.Ejection{For: -1},
	})
	const all = `targets[0].url: is required
targets[1].url: must start with http://, https://, h2c:// or unix:, got "ftp://a"
targets[2].url: must have a host, got "http://:80"
targets[3].url: must not have a user, query or fragment, got "http://u:xxxxx@a"
targets[4].url: must not have a user, query or fragment, got "http://a?b"
targets[5].weight: must be 1 to 1000, got 1001
targets[6].url: http://a is listed twice
balance: unknown method 9
host: set it or keep the client's, not both
health.path: must be a path that starts with a slash, got "healthz"
health: interval and timeout must not be negative
ejection: values must not be negative
dial timeout: must not be negative`
	if err == nil || err.Error() != all {
		t.Errorf("got:\n%v\nwant:\n%s", err, all)
	}
	for _, path := range []string{"http://a/b", "", "*"} {
		if _, err := upstream.New(upstream.Options{Targets: []upstream.Target{target("http://a")}, Health: &upstream.Health{Path: path}}); err == nil {
			t.Errorf("health path %q was accepted", path)
		}
	}
}
