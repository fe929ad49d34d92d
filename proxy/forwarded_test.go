package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// from calls the gateway without a network, so that the peer can be any address, and
// returns what the upstream got.
func (r *testGateway) from(peer string, fields ...string) *http.Request {
	r.t.Helper()
	req := httptest.NewRequest("GET", "http://api.example/api/health", nil)
	req.RemoteAddr = peer
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	before := len(r.requests())
	w := httptest.NewRecorder()
	r.gateway.Config.Handler.ServeHTTP(w, req)
	if sent := r.requests()[before:]; w.Code == 200 && len(sent) == 1 {
		return sent[0]
	}
	r.t.Fatalf("from %s with %q: %d", peer, fields, w.Code)
	return nil
}

func trusting(networks ...string) func(*proxy.Options) {
	return func(o *proxy.Options) {
		for _, n := range networks {
			o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(n))
		}
	}
}

// TestForwardedForIsTheTrustedChain: the upstream gets the chain that came, followed by
// the peer. X-Real-Ip is the nearest address that is not a trusted proxy.
func TestForwardedForIsTheTrustedChain(t *testing.T) {
	r := newTestGateway(t, setup{change: trusting("10.0.0.0/8", "2001:db8:1::/48", "fe80::/10")})
	const near = "10.0.0.1:1234"
	for _, c := range []struct {
		name, peer    string
		lines         []string
		chain, client string
	}{
		{"a stranger", "203.0.113.9:1", []string{"6.6.6.6"}, "203.0.113.9", "203.0.113.9"},
		{"a stranger with a proxy's address in the chain", "203.0.113.9:1", []string{"6.6.6.6, 10.0.0.1"}, "203.0.113.9", "203.0.113.9"},
		{"a proxy alone", near, nil, "10.0.0.1", "10.0.0.1"},
		{"one client", near, []string{"203.0.113.9"}, "203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"a client that lies", near, []string{"6.6.6.6, 203.0.113.9"}, "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"a client that lies of a proxy", near, []string{"10.9.9.9, 203.0.113.9"}, "10.9.9.9, 203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"two proxies", near, []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9, 10.0.0.2, 10.0.0.1", "203.0.113.9"},
		{"proxies only", near, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3, 10.0.0.2, 10.0.0.1", "10.0.0.3"},
		{"several lines", near, []string{"6.6.6.6", "203.0.113.9,10.0.0.3", " 10.0.0.2\t"}, "6.6.6.6, 203.0.113.9, 10.0.0.3, 10.0.0.2, 10.0.0.1", "203.0.113.9"},
		{"empty elements", near, []string{"", "203.0.113.9, ,", ",10.0.0.2,,"}, "203.0.113.9, 10.0.0.2, 10.0.0.1", "203.0.113.9"},
		{"nothing but commas", near, []string{",,,", ""}, "10.0.0.1", "10.0.0.1"},
		{"garbage at the client", near, []string{"<script>, 203.0.113.9"}, "203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"garbage near by", near, []string{"203.0.113.9, unknown, 10.0.0.2"}, "10.0.0.2, 10.0.0.1", "10.0.0.2"},
		{"an address with a name's letters", near, []string{"203.0.113.9, 1.2.3.4.5"}, "10.0.0.1", "10.0.0.1"},
		{"a leading zero", near, []string{"010.0.0.2"}, "10.0.0.1", "10.0.0.1"},
		{"quotes", near, []string{`"203.0.113.9"`}, "10.0.0.1", "10.0.0.1"},
		{"IPv4 in brackets", near, []string{"[203.0.113.9]"}, "10.0.0.1", "10.0.0.1"},
		{"ports", near, []string{"203.0.113.9:5678, [2001:db8:1::7]:80"}, "203.0.113.9, 2001:db8:1::7, 10.0.0.1", "203.0.113.9"},
		{"brackets", near, []string{"[2001:db8:2::7]"}, "2001:db8:2::7, 10.0.0.1", "2001:db8:2::7"},
		{"IPv6 in another form", near, []string{"2001:DB8:2:0:0::7"}, "2001:db8:2::7, 10.0.0.1", "2001:db8:2::7"},
		{"a zone", near, []string{"203.0.113.9, fe80::1%eth0"}, "203.0.113.9, fe80::1, 10.0.0.1", "203.0.113.9"},
		{"mapped IPv4", near, []string{"203.0.113.9, ::ffff:10.0.0.2"}, "203.0.113.9, 10.0.0.2, 10.0.0.1", "203.0.113.9"},
		{"a mapped peer", "[::ffff:10.0.0.1]:1", []string{"203.0.113.9"}, "203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"a mapped peer with a zone", "[::ffff:203.0.113.9%eth0]:1", []string{"6.6.6.6"}, "203.0.113.9", "203.0.113.9"},
		{"a mapped stranger", "[::ffff:203.0.113.9]:1", []string{"6.6.6.6"}, "203.0.113.9", "203.0.113.9"},
		{"an IPv6 peer", "[2001:db8:1::1]:1", []string{"203.0.113.9"}, "203.0.113.9, 2001:db8:1::1", "203.0.113.9"},
		{"an IPv6 stranger", "[2001:db8:2::1]:1", []string{"203.0.113.9"}, "2001:db8:2::1", "2001:db8:2::1"},
		{"a peer with a zone", "[fe80::1%eth0]:1", []string{"203.0.113.9"}, "203.0.113.9, fe80::1", "203.0.113.9"},
		{"a unix socket", "@", []string{"203.0.113.9"}, "", ""},
		{"a unix socket without a name", "", []string{"203.0.113.9"}, "", ""},
		{"1000 clients", near, []string{strings.Repeat("6.6.6.6, ", 999) + "203.0.113.9"}, strings.Repeat("6.6.6.6, ", 99) + "203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"1000 proxies", near, []string{strings.Repeat("10.0.0.2, ", 999) + "10.0.0.2"}, strings.Repeat("10.0.0.2, ", 100) + "10.0.0.1", "10.0.0.2"},
		{"1000 lines", near, strings.Split(strings.Repeat("6.6.6.6 ", 999)+"203.0.113.9", " "), strings.Repeat("6.6.6.6, ", 99) + "203.0.113.9, 10.0.0.1", "203.0.113.9"},
		{"1000 commas", near, []string{"203.0.113.9" + strings.Repeat(",", 1000)}, "10.0.0.1", "10.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fields []string
			for _, line := range c.lines {
				fields = append(fields, "X-Forwarded-For: "+line)
			}
			got := r.from(c.peer, fields...).Header
			var chain, client []string
			if c.chain != "" {
				chain, client = []string{c.chain}, []string{c.client}
			}
			if fmt.Sprint(got["X-Forwarded-For"]) != fmt.Sprint(chain) || fmt.Sprint(got["X-Real-Ip"]) != fmt.Sprint(client) {
				t.Errorf("X-Forwarded-For: %q, X-Real-Ip: %q\nwant %q, %q", got["X-Forwarded-For"], got["X-Real-Ip"], chain, client)
			}
		})
	}
}

func TestForwardedProtoAndHostOfTrustedProxy(t *testing.T) {
	r := newTestGateway(t, setup{change: trusting("10.0.0.0/8")})
	for _, c := range []struct {
		peer        string
		fields      []string
		proto, host string
	}{
		{"10.0.0.1:1", nil, "http", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: www.example:8443"}, "https", "www.example:8443"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: HTTPS", "X-Forwarded-Host: [2001:db8::1]:443"}, "https", "[2001:db8::1]:443"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: wss"}, "wss", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: gopher", "X-Forwarded-Host: a/b"}, "http", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: https, http", "X-Forwarded-Host: a, b"}, "http", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: https", "X-Forwarded-Host: a", "X-Forwarded-Host: a"}, "http", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Proto: ", "X-Forwarded-Host: "}, "http", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Host: user@evil"}, "http", "api.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-Host: " + strings.Repeat("a", 261)}, "http", "api.example"},
		{"203.0.113.9:1", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example"}, "http", "api.example"},
	} {
		got := r.from(c.peer, c.fields...).Header
		if fmt.Sprint(got["X-Forwarded-Proto"], got["X-Forwarded-Host"]) != fmt.Sprint([]string{c.proto}, []string{c.host}) {
			t.Errorf("from %s with %q: %q and %q, want %s and %s", c.peer, c.fields, got["X-Forwarded-Proto"], got["X-Forwarded-Host"], c.proto, c.host)
		}
	}
}

// TestForwardedHeadersOfStrangersAreRemoved: headers that frameworks take for the
// client's address or scheme reach the upstream only from a trusted proxy. From anybody
// else they are removed in every spelling.
func TestForwardedHeadersOfStrangersAreRemoved(t *testing.T) {
	r := newTestGateway(t, setup{change: trusting("10.0.0.0/8")})
	names := []string{
		"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Ssl",
		"X-Forwarded-User", "X-Forwarded-Client-Cert", "X-Forwarded-" + strings.Repeat("A", 60), "X-Real-IP", "X-Client-IP", "Client-IP",
		"True-Client-IP", "Proxy-Client-IP", "WL-Proxy-Client-IP", "X-Originating-IP", "Remote-Addr", "Https", "CF-Connecting-IP", "Fastly-Client-IP", "X-Cluster-Client-IP", "X-Envoy-External-Address", "Front-End-Https", "X-Request-Id",
	}
	spellings := []func(string) string{
		func(s string) string { return s }, strings.ToUpper, strings.ToLower,
		func(s string) string { return strings.ReplaceAll(s, "-", "_") },
		func(s string) string { return strings.Replace(strings.ToLower(s), "-", "_", 1) },
	}
	const lie = "6.6.6.6"
	var all, usual []string
	for _, name := range names {
		usual = append(usual, name+": "+lie)
		for _, spell := range spellings {
			all = append(all, spell(name)+": "+lie)
		}
	}
	lies := func(req *http.Request) (names []string) {
		for name, values := range req.Header {
			if strings.Contains(fmt.Sprint(values), lie) {
				names = append(names, name)
			}
		}
		return names
	}
	if got := lies(r.from("203.0.113.9:1", append(all, "Connection: X-Forwarded-For, X-Real-Ip")...)); len(got) > 0 {
		t.Errorf("a stranger's %q reached the upstream", got)
	}
	// The same over the network, where net/http has its own idea of spellings. A trailer must
	// not get through either.
	conn := r.dial()
	before := len(r.requests())
	fmt.Fprintf(conn, "GET /api/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n%s\r\n\r\n0\r\nX-Forwarded-For: %s\r\n\r\n", strings.Join(all, "\r\n"), lie)
	testkit.Eventually(t, "a request arrives", func() bool { return len(r.requests()) > before })
	sent := r.requests()[before]
	if got := lies(sent); len(got) > 0 {
		t.Errorf("a stranger's %q reached the upstream", got)
	}
	if len(sent.Trailer) > 0 {
		t.Errorf("the trailers %v reached the upstream", sent.Trailer)
	}
	// From a trusted proxy, only the spellings that no proxy writes are removed.
	got := r.from("10.0.0.1:1", all...)
	for _, name := range lies(got) {
		if strings.Contains(name, "_") {
			t.Errorf("a proxy's %s reached the upstream", name)
		}
	}
	got = r.from("10.0.0.1:1", usual...)
	for _, name := range names {
		want := lie
		switch name {
		case "Forwarded":
			want = ""
		case "X-Forwarded-For":
			want = lie + ", 10.0.0.1"
		}
		if v := got.Header.Get(name); v != want {
			t.Errorf("the upstream got a proxy's %s as %q, want %q", name, v, want)
		}
	}
	// A proxy that only appends to X-Forwarded-For passes on a client's X-Real-Ip.
	if got := r.from("10.0.0.1:1", "X-Forwarded-For: 203.0.113.9", "X-Real-Ip: "+lie).Header["X-Real-Ip"]; fmt.Sprint(got) != "[203.0.113.9]" {
		t.Errorf("X-Real-Ip is %q", got)
	}
}

// TestForwardedHeadersSurviveConnectionHeader: a header that a client names in Connection
// is dropped on the way, but not one that the gateway sets.
func TestForwardedHeadersSurviveConnectionHeader(t *testing.T) {
	r := newTestGateway(t, setup{change: trusting("127.0.0.0/8")})
	conn := r.dial()
	io.WriteString(conn, "GET /api/health HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nConnection: X-Forwarded-For, X-Forwarded-Proto, X-Real-Ip\r\n\r\n")
	testkit.Eventually(t, "a request arrives", func() bool { return len(r.requests()) == 1 })
	h := r.requests()[0].Header
	if h.Get("X-Forwarded-For") != "203.0.113.9, 127.0.0.1" || h.Get("X-Real-Ip") != "203.0.113.9" || h.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("the upstream got %v", h)
	}
}
