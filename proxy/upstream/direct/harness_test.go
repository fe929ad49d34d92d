package direct_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/proxy/upstream/direct"
)

// memory is a body that is in memory.
type memory struct{ io.ReadCloser }

func (memory) InMemory() bool { return true }

func inMemory(text string) io.ReadCloser {
	return memory{io.NopCloser(bytes.NewReader([]byte(text)))}
}

// A listening is a server that talks to each connection as it likes.
type listening struct {
	address string
	conns   atomic.Int32 // so far
}

func listen(t testing.TB, talk func(c net.Conn, r *bufio.Reader)) *listening {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &listening{address: l.Addr().String()}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			mu.Lock()
			open[c] = true
			mu.Unlock()
			running.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}()
				talk(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return s
}

// answering answers every request with the same bytes.
func answering(response string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, response)
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// A client is a Transport whose connections are counted.
type client struct {
	*direct.Transport
	open  atomic.Int32
	other atomic.Int32 // requests that the Transport handed on
	// beforeDial is called, if it is not nil.
	beforeDial atomic.Pointer[func(context.Context)]
}

type counted struct {
	*net.TCPConn
	open *atomic.Int32
	once sync.Once
}

func (c *counted) SyscallConn() (syscall.RawConn, error) { return c.TCPConn.SyscallConn() }

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.TCPConn.Close()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newClient(t testing.TB) *client {
	c := new(client)
	c.Transport = &direct.Transport{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if before := c.beforeDial.Load(); before != nil {
				(*before)(ctx)
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c.open.Add(1)
			return &counted{TCPConn: conn.(*net.TCPConn), open: &c.open}, nil
		},
		Other: roundTripper(func(*http.Request) (*http.Response, error) {
			c.other.Add(1)
			return nil, errOther
		}),
		IdleTimeout: time.Minute,
		MaxIdle:     100,
	}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		eventually(t, "all connections are closed", func() bool { return c.open.Load() == 0 })
	})
	return c
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// get sends a request and reads the whole response.
func (c *client) get(t testing.TB, req *http.Request) (*http.Response, string, error) {
	t.Helper()
	res, err := c.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func newRequest(method, address, body string) *http.Request {
	req, err := http.NewRequest(method, "http://"+address+"/path?q=1", nil)
	if err != nil {
		panic(err)
	}
	if body != "" {
		req.Body, req.ContentLength = inMemory(body), int64(len(body))
	}
	return req
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
