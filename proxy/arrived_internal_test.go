package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// A gatedConn is a connection with a ReadHook, as the gateway's listener has them.
type gatedConn struct {
	net.Conn
	ReadHook
}

func (c *gatedConn) Read(p []byte) (int, error) {
	if !c.BeforeRead(len(p)) {
		return 0, nil
	}
	return c.Conn.Read(p)
}

type gatedListener struct{ net.Listener }

func (l gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatedConn{Conn: c}, nil
}

// A short body is in memory if it has come with the header. One that has not is neither waited
// for nor lost.
func TestTakeArrived(t *testing.T) {
	looked, read, gone := make(chan bool, 1), make(chan string, 1), make(chan bool, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &requestBody{ReadCloser: r.Body, left: 1 << 20, w: w, hook: (&exchange{in: r}).readHook()}
		b.takeArrived(r)
		looked <- b.InMemory()
		text, err := io.ReadAll(b)
		read <- fmt.Sprint(string(text), err)
		if err != nil && !b.broken.Load() {
			t.Error("the body is not the client's fault")
		}
		if r.URL.Path == "/wait" {
			select {
			case <-r.Context().Done():
				gone <- true
			case <-time.After(20 * time.Second):
				gone <- false
			}
		}
	}))
	s.Listener = gatedListener{s.Listener}
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return WithReadHook(ctx, &c.(*gatedConn).ReadHook)
	}
	s.Start()
	defer s.Close()
	long := strings.Repeat("x", maxArrived+1)
	for _, test := range []struct {
		header, first, rest string
		inMemory            bool
	}{
		{"", "text", "", true},
		{"", "te", "", true},
		{"", strings.Repeat("x", 3000), "", true},
		{"", "t", "", true},
		{"", "", "t", false},
		{"", "tex", "t", false},
		{"", "", "text", false},
		{"", "te", "xt", false},
		{"", long, "", false},
		{"", strings.Repeat("x", 3000), strings.Repeat("y", 1000), false},
		{"Expect: 100-continue\r\n", "text", "", false},
	} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()                               // also when the test fails: the server waits for it
		for i, path := range []string{"/", "/wait"} { // the second request is on the same connection
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s", path, len(test.first+test.rest), test.header, test.first)
			if got := testkit.Receive(t, "the handler has looked for the body", looked); got != test.inMemory {
				t.Errorf("%.20q then %.20q: in memory: %t", test.first, test.rest, got)
			}
			io.WriteString(c, test.rest)
			if got := <-read; got != test.first+test.rest+"<nil>" {
				t.Errorf("%.20q then %.20q: read %.40q", test.first, test.rest, got)
			}
			if i == 0 {
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
				head := make([]byte, 4096)
				for n := 0; !strings.Contains(string(head[:n]), "Content-Length: 0\r\n\r\n"); {
					m, err := c.Read(head[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += m
				}
			}
		}
		c.Close() // net/http still notices
		if !<-gone {
			t.Errorf("%.20q then %.20q: the handler does not notice that the client is gone", test.first, test.rest)
		}
	}
	// A client that ends its side too early sends no whole body, wherever that is found out.
	for _, part := range []string{"", "te", "tex"} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%s", part)
		c.(*net.TCPConn).CloseWrite()
		if testkit.Receive(t, "the handler has looked for the body", looked) {
			t.Errorf("%q is the whole body", part)
		}
		if got, want := <-read, part+io.ErrUnexpectedEOF.Error(); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
		c.Close()
	}
}

// What was read of a body in memory does not stay there while the request waits for its response.
func TestArrivedBodyIsFreedOnceRead(t *testing.T) {
	r := httptest.NewRequest("POST", "/", strings.NewReader("text"))
	b := &requestBody{ReadCloser: r.Body, left: 1 << 20, hook: new(ReadHook)}
	b.takeArrived(r)
	for _, want := range []string{"text", ""} { // the transport may look for the end once more
		if got, err := io.ReadAll(b); string(got) != want || err != nil {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	if !b.InMemory() || b.ReadCloser != http.NoBody {
		t.Errorf("in memory: %t, and the body still has %T", b.InMemory(), b.ReadCloser)
	}
}
