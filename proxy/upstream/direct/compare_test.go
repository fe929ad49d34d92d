package direct_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever a server sends, the caller sees what it would see of http.Transport. TestReuse has
// the connections: http.Transport reuses those of HTTP/1.0.
func FuzzResponses(f *testing.F) {
	head := "HTTP/1.1 200 OK\r\n"
	for i, s := range []string{
		ok, ok + "more", ok + ok, head + "\r\nuntil the end", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
		head + "Content-Length: 5\r\n\r\nok", head + "Content-Length: -1\r\n\r\n", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nok",
		head + "Content-Length: +2\r\n\r\nok", head + "Transfer-Encoding: gzip\r\n\r\nok", head + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + ok, "HTTP/1.1 103 E\r\nA: b\r\n\r\n",
		"HTTP/1.1 101 S\r\n\r\n", "HTTP/1.1 099 S\r\n\r\n", "HTTP/1.1 2000 S\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200", "\r\n", "", "SSH-2.0-OpenSSH\r\n",
		head + "Connection: close\r\nContent-Length: 2\r\n\r\nok", head + "A : b\r\n\r\n", head + " A: b\r\n\r\n", head + "Trailer: A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nB: c\r\n\r\n",
		head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", head + "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\nmore", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add(s, uint8(0), uint16(0))
		f.Add(s, uint8(i%3), uint16(len(s)/2))
	}
	f.Fuzz(func(t *testing.T, response string, method uint8, cut uint16) {
		name := []string{"GET", "HEAD", "POST"}[method%3]
		var seen [2]string
		for i := range seen {
			s := listen(t, func(c net.Conn, r *bufio.Reader) {
				for range 2 {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					at := min(int(cut), len(response))
					io.WriteString(c, response[:at])
					if at > 0 {
						time.Sleep(time.Millisecond) // so that it arrives in two parts
					}
					io.WriteString(c, response[at:])
					c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // the next request, or the end
				}
			})
			var rt http.RoundTripper = newClient(t)
			if i == 1 {
				transport := &http.Transport{DisableCompression: true}
				defer transport.CloseIdleConnections()
				rt = transport
			}
			seen[i] = see(rt, name, s.address)
		}
		if seen[0] != seen[1] {
			t.Errorf("%s %q: %s\nhttp.Transport: %s", name, response, seen[0], seen[1])
		}
	})
}

func see(rt http.RoundTripper, method, address string) string {
	res, err := rt.RoundTrip(newRequest(method, address, ""))
	if err != nil {
		return "error"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%s %s, length %d, %q, close %t, %q %q, error %t", res.Proto, res.Status, res.ContentLength, res.Header, res.Close, body, res.Trailer, err != nil)
}

// Servers that close, stall, and send garbage at any moment; clients that go at any moment. No
// response is that of another request, and no connection or goroutine is left.
func TestAttack(t *testing.T) {
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			id := req.Header.Get("Id")
			response := fmt.Sprintf("HTTP/1.1 200 OK\r\nId: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
			switch rand.IntN(8) {
			case 0:
				io.WriteString(c, response[:rand.IntN(len(response))])
				return
			case 1:
				io.WriteString(c, response)
				return
			case 2:
				io.WriteString(c, response+response)
			case 3:
				for i := range response {
					io.WriteString(c, response[i:i+1])
				}
			case 4:
				c.(*net.TCPConn).SetLinger(0)
				return
			default:
				io.WriteString(c, response)
			}
		}
	})
	c := newClient(t)
	var clients sync.WaitGroup
	var good, bad atomic.Int32
	for i := range 16 {
		clients.Go(func() {
			for n := range 200 {
				id := fmt.Sprintf("%d-%d", i, n)
				body := ""
				if n%2 == 0 {
					body = id
				}
				req := newRequest([]string{"GET", "POST"}[n/2%2], s.address, body)
				req.Header.Set("Id", id)
				ctx := t.Context()
				if n%5 == 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
					defer cancel()
				}
				res, err := c.RoundTrip(req.WithContext(ctx))
				if err != nil {
					bad.Add(1)
					continue
				}
				if got := res.Header.Get("Id"); got != id {
					t.Errorf("request %s got the response to %s", id, got)
				}
				if n%7 == 0 {
					res.Body.Close()
					continue
				}
				if text, err := io.ReadAll(res.Body); err == nil && string(text) != id {
					t.Errorf("request %s got the body %q", id, text)
				}
				res.Body.Close()
				good.Add(1)
			}
		})
	}
	clients.Wait()
	t.Logf("%d good, %d bad", good.Load(), bad.Load())
}
