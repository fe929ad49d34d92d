package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A requestBody is a request's body on its way to the upstream. After left bytes it
// ends with errBodyTooLarge. http.MaxBytesReader does not fit: it needs net/http's own
// ResponseWriter.
type requestBody struct {
	io.ReadCloser
	w       http.ResponseWriter // of a client of HTTP/1; nil with HTTP/2
	hook    *ReadHook           // see exchange.readHook
	arrived bool                // all of it is in memory
	// mu is held during a Read: the transport may still read when its response has been sent.
	mu   sync.Mutex
	read int64 // bytes
	left int64
	// closed: nothing may be read any more.
	closed   atomic.Bool
	exceeded atomic.Bool
	complete atomic.Bool // read to its end
	broken   atomic.Bool // ended with an error that is the client's fault
	gone     atomic.Bool // ended because the client reset its stream of HTTP/2, or closed the connection
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.complete.Load() && !b.exceeded.Load() {
		// The transport reads once more to see the end. By then the response may have begun, and net/http
		// has closed the body: the error would make the transport close the connection to the upstream
		// in the middle of the response.
		return 0, io.EOF
	}
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.exceeded.Load() {
		return 0, errBodyTooLarge
	}
	// One byte more than is allowed tells a body that ends there from a longer one.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if err == io.EOF {
		b.complete.Store(true)
		if b.arrived {
			b.ReadCloser = http.NoBody // what was read need not stay in memory until the response
		}
	} else if err != nil && b.w == nil && isReset(err) {
		b.gone.Store(!b.closed.Load())
	} else if err != nil {
		var network net.Error // also when the cutoff has ended the read
		// With HTTP/1 only a deadline ends a Read because of Close.
		b.broken.Store(!errors.As(err, &network) && (b.w != nil || !b.closed.Load()))
	}
	if int64(n) > b.left {
		b.exceeded.Store(true)
		return int(b.left), errBodyTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// A streamReset is an error of a stream of HTTP/2 that was reset. net/http's own type, which is not
// exported, turns into any struct with these fields: see errors.As, and StreamError of
// golang.org/x/net/http2.
type streamReset struct {
	StreamID, Code uint32
	Cause          error
}

func (e streamReset) Error() string { return "the stream was reset" }

// isReset reports whether the read of a request's body of HTTP/2 ended because the client reset the
// stream, or its connection ended. net/http has no type for the latter.
func isReset(err error) bool {
	var reset streamReset
	return errors.As(err, &reset) || err.Error() == "client disconnected"
}

// Close ends a Read that is under way: the client may hold its body back for ever. The
// Close of net/http's server would wait for that Read, and then read on by itself.
func (b *requestBody) Close() error {
	b.closed.Store(true)
	switch {
	case b.complete.Load(): // the connection may carry other requests, and must not time out
	case b.w == nil:
		return b.ReadCloser.Close()
	case !b.mu.TryLock():
		return http.NewResponseController(b.w).SetReadDeadline(time.Now())
	default:
		b.mu.Unlock()
	}
	return nil
}

// NotifyBeforeWait is that of upstream.WaitNotifier.
func (b *requestBody) NotifyBeforeWait(f func()) bool {
	switch {
	case b.arrived: // it never waits
	case b.hook == nil:
		return false
	default:
		b.hook.set(f)
	}
	return true
}

// A ReadHook lets a request do something before a Read of its body waits for the client. It belongs to
// the client's connection, which calls BeforeRead before each Read, and tells its requests by WithReadHook.
type ReadHook struct {
	f    atomic.Pointer[func()]
	shut atomic.Bool // see requestBody.takeArrived
}

// BeforeRead does what the present request wants to be done before a Read of at most size bytes. If it returns false, Read
// must return nothing at once.
func (h *ReadHook) BeforeRead(size int) bool {
	// From the end of a body, net/http watches the connection with a Read of one byte, which must wait. It reads
	// everything else into a buffer.
	if size > 1 && h.shut.Load() {
		return false
	}
	if f := h.f.Load(); f != nil {
		(*f)()
	}
	return true
}

// set sets what BeforeRead does; nil: nothing.
func (h *ReadHook) set(f func()) {
	if f == nil {
		h.f.Store(nil)
		return
	}
	h.f.Store(&f)
}

type readHookKey struct{}

// WithReadHook returns the context for the requests of a connection.
func WithReadHook(ctx context.Context, h *ReadHook) context.Context {
	return context.WithValue(ctx, readHookKey{}, h)
}

// readHook returns the ReadHook of the client's connection. It is nil if there is none, or if a Read of the body
// may wait without a Read of the connection: with HTTP/2, and while the body is read ahead.
func (x *exchange) readHook() *ReadHook {
	if _, ahead := x.in.Body.(*bodyAhead); ahead || x.in.ProtoMajor != 1 {
		return nil
	}
	h, _ := x.in.Context().Value(readHookKey{}).(*ReadHook)
	return h
}

// endedBroken reports whether the body has ended with an error that is the client's fault. It waits
// for a Read that is under way: it must only be called when the client's connection has ended.
func (b *requestBody) endedBroken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken.Load()
}

// maxArrived is how much of a body net/http may have read with the header, in bytes.
const maxArrived = 4 << 10

// takeArrived takes a short body into memory if it has arrived with the header. Only then the request can be sent
// without a goroutine that reads it: see package direct.
func (b *requestBody) takeArrived(r *http.Request) {
	if b.hook == nil || r.TLS != nil || r.ContentLength < 1 || r.ContentLength > maxArrived || r.Header["Expect"] != nil {
		return
	}
	data := make([]byte, r.ContentLength)
	b.hook.shut.Store(true)
	n := readUntilEmpty(r.Body, data)
	b.hook.shut.Store(false)
	taken := bytes.NewReader(data[:n])
	if n == len(data) {
		b.arrived, b.ReadCloser = true, io.NopCloser(taken)
		return
	}
	b.ReadCloser = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(taken, r.Body), r.Body}
}

// readUntilEmpty fills p, or stops when a Read returns nothing. The only error is io.EOF, with the last byte: the
// connection, which may have others, is not read.
func readUntilEmpty(r io.Reader, p []byte) (n int) {
	for n < len(p) {
		m, _ := r.Read(p[n:])
		if m == 0 {
			break
		}
		n += m
	}
	return n
}

// InMemory makes b a direct.MemoryBody.
func (b *requestBody) InMemory() bool { return b.arrived }

// stop closes the body and waits until nothing reads it. What is left is for
// exchange.linger.
func (b *requestBody) stop() {
	b.Close()
	if b.w != nil {
		b.mu.Lock()
		b.mu.Unlock()
	}
}

// buffers are the buffers through which ReverseProxy copies bodies.
var buffers bufferPool

// A bufferPool is an httputil.BufferPool of 32 KiB buffers. It pools pointers to arrays:
// with slices, each Put would allocate.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

func (p *bufferPool) Put(b []byte) {
	if len(b) == bufferSize {
		p.pool.Put((*[bufferSize]byte)(b))
	}
}
