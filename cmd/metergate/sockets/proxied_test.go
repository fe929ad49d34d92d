package sockets

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
)

// version2 returns a header with an address and so many bytes of other data, which is sent whole or not.
func version2(source string, tlvs int) string {
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))
	h := proxyproto.HeaderProxyFromAddrs(2, from, &net.TCPAddr{IP: from.IP, Port: 80})
	if tlvs > 0 {
		if err := h.SetTLVs([]proxyproto.TLV{{Type: 0xe0, Value: bytes.Repeat([]byte("x"), tlvs-3)}}); err != nil {
			panic(err)
		}
	}
	text, err := h.Format()
	if err != nil {
		panic(err)
	}
	return string(text)
}

// proxied returns a connection whose peer sends what send writes, and the errors for which it was refused.
func proxied(t *testing.T, send func(net.Conn)) (*Proxied, *[]error) {
	peer, conn := net.Pipe()
	t.Cleanup(func() { peer.Close(); conn.Close() })
	go send(peer)
	refused := new([]error)
	return NewProxied(conn, HeaderTimeout, func(err error) { *refused = append(*refused, err) }), refused
}

func TestProxiedReadsHeader(t *testing.T) {
	local := "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	unspecified := "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00"
	overUnix := proxyproto.HeaderProxyFromAddrs(2, &net.UnixAddr{Name: "/a", Net: "unix"}, &net.UnixAddr{Name: "/b", Net: "unix"})
	text, err := overUnix.Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ header, client string }{
		"version 1":                  {"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n", "203.0.113.9:4711"},
		"version 1, IPv6":            {"PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n", "[2001:db8::9]:4711"},
		"version 1, no address":      {"PROXY UNKNOWN\r\n", "pipe"},
		"version 2":                  {version2("203.0.113.9:4711", 0), "203.0.113.9:4711"},
		"version 2, IPv6":            {version2("[2001:db8::9]:4711", 300), "[2001:db8::9]:4711"},
		"version 2, 4 KiB":           {version2("203.0.113.9:4711", 4000), "203.0.113.9:4711"},
		"version 2, a health check":  {local, "pipe"},
		"version 2, no address":      {unspecified + "\x00", "pipe"},
		"version 2, only other data": {unspecified + "\x05\xe0\x00\x02ab", "pipe"},
		"version 2, from a socket":   {string(text), "pipe"},
		"version 1 with the request": {"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n" + strings.Repeat("more ", 500), "203.0.113.9:4711"},
	} {
		t.Run(name, func(t *testing.T) {
			p, refused := proxied(t, func(peer net.Conn) {
				io.WriteString(peer, c.header)
				io.WriteString(peer, "GET / HTTP/1.1\r\n")
				peer.Close()
			})
			if got := p.RemoteAddr().String(); got != c.client {
				t.Errorf("client %s, want %s", got, c.client)
			}
			got, err := io.ReadAll(p)
			if err != nil || !strings.HasSuffix(string(got), "GET / HTTP/1.1\r\n") || len(got) != 16 && !strings.HasPrefix(string(got), "more ") {
				t.Errorf("what follows: %q, %v", got, err)
			}
			if len(*refused) > 0 {
				t.Errorf("refused: %v", *refused)
			}
		})
	}
}

// What is not a header, or does not arrive in time, closes the connection. Nothing of it is read on.
func TestProxiedRefusesWhatIsNoHeader(t *testing.T) {
	huge := []byte(version2("203.0.113.9:4711", 0))
	binary.BigEndian.PutUint16(huge[14:], 65535)
	for name, c := range map[string]struct {
		send   string
		stays  bool // the peer does not close
		silent bool // is not reported
	}{
		"a request":           {send: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"garbage":             {send: "\x00\xff\x13\x37"},
		"a TLS hello":         {send: "\x16\x03\x01\x02\x00\x01\x00"},
		"half a header":       {send: "PROXY TCP4 203.0.113.9", stays: true},
		"half of version 2":   {send: version2("203.0.113.9:4711", 0)[:20], stays: true},
		"no end":              {send: "PROXY " + strings.Repeat("x", 2000), stays: true},
		"a name":              {send: "PROXY TCP4 localhost 192.0.2.1 4711 80\r\n"},
		"a port":              {send: "PROXY TCP4 203.0.113.9 192.0.2.1 99999 80\r\n"},
		"64 KiB of version 2": {send: string(huge) + strings.Repeat("x", 65536), stays: true},
		"nothing, for ever":   {stays: true},
		"nothing":             {silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				p, refused := proxied(t, func(peer net.Conn) {
					io.WriteString(peer, c.send)
					if !c.stays {
						peer.Close()
					}
				})
				if got := p.RemoteAddr().String(); got != "pipe" {
					t.Errorf("client %s", got)
				}
				if n, err := p.Read(make([]byte, 100)); n > 0 || err == nil {
					t.Errorf("read %d bytes, %v", n, err)
				}
				if took := time.Since(start); took > HeaderTimeout {
					t.Errorf("it took %v", took)
				}
				if (len(*refused) == 0) != c.silent {
					t.Errorf("refused: %v", *refused)
				}
			})
		})
	}
}

// A header that comes byte by byte has as much time as any other.
func TestProxiedBoundsSlowHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p, _ := proxied(t, func(peer net.Conn) {
			for _, b := range []byte(version2("203.0.113.9:4711", 500)) {
				if _, err := peer.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		p.RemoteAddr()
		if took := time.Since(start); took != HeaderTimeout {
			t.Errorf("it took %v", took)
		}
		time.Sleep(2 * time.Second) // the peer notices that it is cut off
	})
}

func TestIsFrom(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), {}}
	tcp := func(text string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)) }
	for _, c := range []struct {
		networks []netip.Prefix
		a        net.Addr
		want     bool
	}{
		{networks, tcp("10.1.2.3:4"), true},
		{networks, tcp("[::ffff:10.1.2.3]:4"), true},
		{networks, tcp("11.1.2.3:4"), false},
		{networks, &net.UnixAddr{}, true},
		{networks[:1], &net.UnixAddr{}, false},
		{nil, tcp("10.1.2.3:4"), false},
	} {
		if got := IsFrom(c.networks, c.a); got != c.want {
			t.Errorf("%v in %v: %v", c.a, c.networks, got)
		}
	}
}
