package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"metergate/proxy/upstream"
)

// A response that cannot be passed on is an error. It is the target's response all the
// same: like a 5xx, it ejects only if that is configured.
func TestMalformedResponseIsAnError(t *testing.T) {
	for _, response := range []string{
		"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 050 Odd\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 20 Odd\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 1000 Odd\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"ok\r\n", // HTTP/0.9
		"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\ntransfer-encoding  : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-F\t: a\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
	} {
		answer := func(c net.Conn) {
			defer c.Close()
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, response)
		}
		for limit, ejected := range map[int]bool{0: false, 3: true} {
			o := upstream.Options{Balance: upstream.RoundRobin, Ejection: upstream.Ejection{ServerErrors: limit}}
			p := newPool(t, o, "http://"+serveRaw(t, answer), "http://"+serveRaw(t, answer))
			for range 10 {
				if res, body, err := send(p, newRequest("GET", "/", "")); err == nil {
					t.Fatalf("%q: %s with %q", response, res.Status, body)
				}
			}
			out := false
			for _, s := range p.Targets() {
				out = out || !s.EjectedUntil.IsZero()
				if s.InFlight != 0 {
					t.Errorf("%q: %+v", response, s)
				}
			}
			if out != ejected {
				t.Errorf("%q, ejection after %d server errors: ejected %t", response, limit, out)
			}
		}
	}
}

// Odd responses that can be passed on are.
func TestOddResponseIsPassedOn(t *testing.T) {
	for start, status := range map[string]int{
		"HTTP/1.1 200\r\n": 200, "HTTP/1.1 200 \r\n": 200, "HTTP/1.0 200 OK\r\n": 200, "HTTP/1.9 200 OK\r\n": 200,
		"HTTP/1.1 600 Odd\r\n": 600, "HTTP/1.1 999 Odd\r\n": 999,
	} {
		p := newPool(t, upstream.Options{}, "http://"+serveRaw(t, func(c net.Conn) {
			defer c.Close()
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, start+"x-f : a\r\nX-F: b\r\nContent-Length: 2\r\n\r\nok")
		}))
		res, body, err := send(p, newRequest("GET", "/", ""))
		if err != nil || res.StatusCode != status || body != "ok" {
			t.Errorf("%q: %+v with %q, error %v", start, res, body, err)
			continue
		}
		if got := res.Header["X-F"]; len(res.Header) != 2 || len(got) != 2 || fmt.Sprint(got) != "[a b]" && fmt.Sprint(got) != "[b a]" {
			t.Errorf("%q: headers %q", start, res.Header)
		}
	}
}
