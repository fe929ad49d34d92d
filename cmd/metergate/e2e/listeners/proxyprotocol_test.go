package listeners

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// dialFrom connects from an address of this machine, and sends a header first.
func dialFrom(t *testing.T, local, gateway, header string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}).Dial("tcp", gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, header)
	return conn
}

const (
	balancerAddress = "127.0.0.2" // in proxy_protocol
	v1Header        = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"
)

// The address in the header is the client's, for the log, the upstream and trusted_proxies, with
// HTTP/1.1 and after TLS. A header of a stranger is a malformed request. Whoever must send one and does
// not is cut off, and holds up nobody.
func TestProxyProtocol(t *testing.T) {
	more := []string{"\nlisten: ", "\nproxy_protocol: [" + balancerAddress + "]\ntrusted_proxies: [198.51.100.0/24]\nlisten: "}
	plain := gatewaytest.StartWith(t, strings.Replace(gatewaytest.ReloadYAML(forwardedFor(t).URL, 100), more[0], more[1], 1))
	address, request := strings.TrimPrefix(plain.URL, "http://"), "POST /api/analyze HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Forwarded-For: 192.0.2.77\r\nAuthorization: Bearer "+testkit.Token("u", "free")+"\r\n\r\n"
	ask := func(conn net.Conn) *http.Response {
		t.Helper()
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, request)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	v2 := func(ip string) string {
		h := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}, &net.TCPAddr{IP: net.ParseIP(ip), Port: 80})
		text, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct {
		from, header string
		status       int
		forwarded    string
	}{
		{balancerAddress, v1Header, 200, "203.0.113.9|203.0.113.9"},
		{balancerAddress, v2("198.51.100.7"), 200, "192.0.2.77, 198.51.100.7|192.0.2.77"}, // a trusted proxy behind the load balancer
		{balancerAddress, v2("2001:db8::9"), 200, "2001:db8::9|2001:db8::9"},
		{balancerAddress, "PROXY UNKNOWN\r\n", 200, balancerAddress + "|" + balancerAddress},
		{"127.0.0.1", "", 200, "127.0.0.1|127.0.0.1"},
		{"127.0.0.1", v1Header, 400, ""},
		{"127.0.0.1", v2("203.0.113.9"), 400, ""},
	} {
		res := ask(dialFrom(t, c.from, address, c.header))
		if got := res.Header.Get("Got-Forwarded"); res.StatusCode != c.status || got != c.forwarded {
			t.Errorf("from %s with %q: status %d, forwarded %s; want %d and %s", c.from, c.header, res.StatusCode, got, c.status, c.forwarded)
		}
	}
	plain.WaitForText(`"client":"203.0.113.9"`)
	for _, wrong := range []string{request, "PROXY TCP4 203.0.113.9\r\n" + request, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + request, "\x16\x03\x01\x02\x00\x01"} {
		conn := dialFrom(t, balancerAddress, address, wrong)
		conn.SetDeadline(time.Now().Add(time.Minute))
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("%q is answered: %q", wrong, answer)
		}
	}
	plain.WaitForText("it does not begin with a header of the PROXY protocol")
	if u := gatewaytest.Usage(t, plain.Process, testkit.Token("u", "free")); u.Used != 5 {
		t.Errorf("%d used, want 5", u.Used)
	}
	// The list is reloaded.
	plain.Save(strings.Replace(gatewaytest.ReloadYAML(forwardedFor(t).URL, 100), more[0], "\ntrusted_proxies: [127.0.0.3]\nlisten: ", 1))
	plain.Reload(gatewaytest.AdminToken)
	if res := ask(dialFrom(t, balancerAddress, address, "")); res.StatusCode != 200 {
		t.Errorf("after the reload: status %d", res.StatusCode)
	}

	secure := gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), forwardedFor(t).URL, more...)
	for _, http2 := range []bool{false, true} {
		client := gatewaytest.TrustingClient(t, secure.Pair, http2)
		transport := client.Transport.(*http.Transport)
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return dialFrom(t, balancerAddress, secure.Addr, v1Header), nil
		}
		res, body := gatewaytest.Ask(t, client, "POST", secure.URL+"/api/analyze", testkit.Token("u", "free"), nil)
		if got := res.Header.Get("Got-Forwarded"); res.StatusCode != 200 || got != "203.0.113.9|203.0.113.9" || (res.ProtoMajor == 2) != http2 {
			t.Errorf("HTTP/%d: status %d, forwarded %s: %s", res.ProtoMajor, res.StatusCode, got, body)
		}
	}
	// TLS comes after the header, not before it.
	conn := tls.Client(dialFrom(t, balancerAddress, secure.Addr, ""), &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err == nil {
		t.Error("a TLS handshake without a header succeeds")
	}
}

// Silent connections of load balancers take the room of connections, as others do, and no more: the
// gateway accepts further ones meanwhile.
func TestSilentLoadBalancersHoldUpNobody(t *testing.T) {
	g := gatewaytest.StartWith(t, "proxy_protocol: ["+balancerAddress+"]\n"+gatewaytest.ReloadYAML(forwardedFor(t).URL, 100))
	address := strings.TrimPrefix(g.URL, "http://")
	for i := range 200 {
		dialFrom(t, balancerAddress, address, "PROXY TCP4 203.0.113.9"[:i%20])
	}
	for i := range 5 {
		if status, body := gatewaytest.Get(g.URL+"/usage?"+fmt.Sprint(i), testkit.Token("u", "free")); status != 200 {
			t.Errorf("status %d: %s", status, body)
		}
	}
}
