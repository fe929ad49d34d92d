package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/sockets"
	"metergate/quota/testkit"
)

// A short request arrives at its target in one piece: it is sent without waiting for its body,
// by package direct. That a body is still to come holds up nothing: the target gets the header.
func TestShortRequestArrivesInOnePiece(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				p := make([]byte, 64<<10)
				for {
					n, err := c.Read(p)
					if err != nil {
						return
					}
					text := string(p[:n])
					got <- text
					if strings.HasSuffix(text, "a text") {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}
			}()
		}
	}()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	for _, listen := range []string{"127.0.0.1:0", "unix:" + socket} {
		a := New(Options{Config: parse(t, t.TempDir(), settings{listen: listen, upstream: "http://" + l.Addr().String(), limit: 100}.yaml()), Log: quiet()})
		if err := a.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		network, address := "tcp", ""
		if listen == "unix:"+socket {
			network, address = "unix", socket
		} else {
			address = sockets.Text(a.PublicAddr())
		}
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		header := fmt.Sprintf("POST /api/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 6\r\n\r\n", testkit.Token("u", "free"))
		answered := func() {
			t.Helper()
			p := make([]byte, 64<<10)
			if n, err := c.Read(p); err != nil || !strings.HasPrefix(string(p[:n]), "HTTP/1.1 200 OK\r\n") {
				t.Fatalf("%q, error %v", p[:n], err)
			}
		}
		for range 3 {
			io.WriteString(c, header+"a text")
			if text := <-got; !strings.HasPrefix(text, "POST /api/x HTTP/1.1\r\n") || !strings.HasSuffix(text, "\r\n\r\na text") {
				t.Fatalf("%s: the target got %q", listen, text)
			}
			answered()
		}
		io.WriteString(c, header)
		if text := <-got; !strings.HasSuffix(text, "\r\n\r\n") {
			t.Fatalf("%s: the target got %q", listen, text)
		}
		io.WriteString(c, "a text")
		if text := <-got; text != "a text" {
			t.Fatalf("%s: the target got %q", listen, text)
		}
		answered()
		c.Close()
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	}
}
