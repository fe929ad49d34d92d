package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"metergate/proxy/upstream"
)

// pipedPool makes a Pool whose connections are pipes. A Read at their other end, which target has, returns no more
// than one Write has written.
func pipedPool(t *testing.T, target func(net.Conn)) *upstream.Pool {
	p := newPool(t, upstream.Options{}, "http://piped")
	var targets sync.WaitGroup
	t.Cleanup(targets.Wait)
	t.Cleanup(p.Retire) // before
	p.SetDial(func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		targets.Go(func() {
			defer theirs.Close()
			theirs.SetDeadline(time.Now().Add(20 * time.Second))
			target(theirs)
		})
		return upstream.NewTargetConn(ours), nil
	})
	return p
}

// echoRequests answers each request with its body. Before it reads on, it calls begun with the first write of the request.
func echoRequests(c net.Conn, begun func([]byte)) {
	for buffer := make([]byte, 16<<10); ; {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		begun(buffer[:n])
		req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(buffer[:n]), c)))
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "" {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, _ := io.ReadAll(req.Body)
		(&http.Response{ProtoMajor: 1, ProtoMinor: 1, StatusCode: 200, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}).Write(c)
	}
}

// The header is written together with the beginning of a body that has arrived, if that is known.
func TestHeaderIsWrittenWithBody(t *testing.T) {
	const alone = "\r\n\r\n"
	long := strings.Repeat("x", 100<<10)
	for name, c := range map[string]struct {
		body   string
		change func(*http.Request)
		end    string // of the first write
	}{
		"short body":          {"text", nil, alone + "text"},
		"long body":           {long, nil, "xxx"},
		"body may wait":       {"text", func(r *http.Request) { r.Body = struct{ io.ReadCloser }{r.Body} }, alone},
		"unknown length":      {"text", func(r *http.Request) { r.ContentLength = -1 }, alone},
		"unknown length, GET": {"text", func(r *http.Request) { r.Method, r.ContentLength = "GET", -1 }, alone},
		"Expect":              {"text", func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, alone},
		"long header":         {"text", func(r *http.Request) { r.Header.Set("A-Long", strings.Repeat("y", 5000)) }, "yyy"},
	} {
		var first string
		p := pipedPool(t, func(conn net.Conn) { echoRequests(conn, func(b []byte) { first = string(b) }) })
		for range 3 { // on one connection
			req := newRequest("POST", "/", c.body)
			if c.change != nil {
				c.change(req)
			}
			if _, body, err := send(p, req); body != c.body || err != nil {
				t.Errorf("%s: got %.20q, error %v", name, body, err)
			}
			if !strings.HasSuffix(first, c.end) {
				t.Errorf("%s: the first write ends with %q, want %q", name, first[max(0, len(first)-20):], c.end)
			}
		}
	}
}

// An awaited body is one whose first Read waits until arrived receives, or the body is closed.
type awaited struct {
	io.Reader
	arrived, closed chan struct{}
	wait            func()
	once, closing   sync.Once
}

func newAwaited(text string) *awaited {
	return &awaited{Reader: strings.NewReader(text), arrived: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (b *awaited) NotifyBeforeWait(f func()) bool {
	if f != nil {
		b.wait = f
	}
	return true
}

func (b *awaited) Read(p []byte) (int, error) {
	b.once.Do(func() {
		b.wait()
		select {
		case <-b.arrived:
		case <-b.closed:
		}
	})
	select {
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	default:
		return b.Reader.Read(p)
	}
}

func (b *awaited) Close() error {
	b.closing.Do(func() { close(b.closed) })
	return nil
}

// If the body has not arrived, the header does not wait for it.
func TestHeaderIsWrittenBeforeBodyWaits(t *testing.T) {
	var body *awaited
	p := pipedPool(t, func(c net.Conn) {
		echoRequests(c, func(first []byte) {
			if !bytes.HasSuffix(first, []byte("\r\n\r\n")) {
				t.Errorf("the first write is %q, want the header", first)
			}
			body.arrived <- struct{}{}
		})
	})
	for range 3 {
		req := newRequest("POST", "/", "text")
		body = newAwaited("text")
		req.Body = body
		if _, got, err := send(p, req); got != "text" || err != nil {
			t.Errorf("got %q, error %v", got, err)
		}
	}
}

// If the header cannot be written when the body is about to wait, the request fails. Otherwise it might wait for ever.
func TestHeaderThatCannotBeWrittenEndsRequest(t *testing.T) {
	p := newPool(t, upstream.Options{}, "http://piped")
	ours, theirs := net.Pipe()
	defer theirs.Close()
	p.SetDial(func(context.Context, string, string) (net.Conn, error) {
		return upstream.NewTargetConn(unwritable{ours}), nil
	})
	req := newRequest("POST", "/", "text")
	body := newAwaited("text")
	req.Body = body
	watchdog := time.AfterFunc(20*time.Second, func() {
		t.Error("the request waits for its body")
		body.Close()
		theirs.Close()
	})
	defer watchdog.Stop()
	if _, _, err := send(p, req); err == nil {
		t.Error("no error")
	}
}

// An unwritable connection is one on which nothing arrives, and nothing can be written.
type unwritable struct{ net.Conn }

func (unwritable) Write([]byte) (int, error) { return 0, syscall.EHOSTUNREACH }

// Calls that are needless, late, and from another goroutine do no harm.
func TestNeedlessNoticesOfWaitsDoNoHarm(t *testing.T) {
	p := pipedPool(t, func(c net.Conn) { echoRequests(c, func([]byte) {}) })
	for range 200 {
		body := &nervousBody{arrived: arrived{strings.NewReader("text")}}
		req := newRequest("POST", "/", "text")
		req.Body = body
		if _, got, err := send(p, req); got != "text" || err != nil {
			t.Fatalf("got %q, error %v", got, err)
		}
		body.late.Wait()
	}
}

type nervousBody struct {
	arrived
	waiting func()
	late    sync.WaitGroup
}

func (b *nervousBody) NotifyBeforeWait(f func()) bool {
	if f != nil {
		b.waiting = f
	}
	return true
}

func (b *nervousBody) Read(p []byte) (int, error) {
	for range 3 {
		b.late.Go(b.waiting)
	}
	return b.arrived.Read(p)
}
