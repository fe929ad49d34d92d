package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"metergate/proxy/upstream/direct"
)

// ErrUploadCut means that a target closed the connection before it had the whole request.
var ErrUploadCut = errors.New("the target closed the connection before it had the whole request")

var errBodyRead = errors.New("the connection broke after part of the request's body was read")

// An upload is a request's body. It hands the body to one attempt at a time, as an
// attemptBody, and knows whether any of it was read. An http.Transport that has given up
// may still read and close what it was given, so the previous attempt loses its access.
type upload struct {
	body  io.ReadCloser
	ctx   context.Context // the request's
	close sync.Once

	mu     sync.Mutex
	holder *attemptBody
	read   bool // a Read has begun
	closed bool // by the holder
	last   bool // no other attempt follows
	ended  bool // read to its end
	cut    bool // closed by the holder before its end, although somebody waits for a response
	failed bool // a Read failed: the client is to blame
}

// An attemptBody is the body as one attempt sees it.
type attemptBody struct{ *upload }

// claim gives the body to a new attempt and takes it from the previous one. It fails if
// that one has begun to read. It is a Request.GetBody.
func (u *upload) claim() (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.read {
		return nil, errBodyRead
	}
	u.holder, u.closed, u.cut = &attemptBody{u}, false, false
	return u.holder, nil
}

// closeHolder closes the body that the present attempt has.
func (u *upload) closeHolder() {
	u.mu.Lock()
	h := u.holder
	u.mu.Unlock()
	h.Close()
}

// wasCut reports whether the attempt gave up before it had all of the body. u may be nil.
func (u *upload) wasCut() bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cut
}

// finish says that no other attempt follows. The body is closed now if the request failed
// or the holder has closed it already, otherwise when the holder closes it. Before that,
// an unread body stays open for the next attempt.
func (u *upload) finish(failed bool) {
	u.mu.Lock()
	u.last = true
	now := failed || u.closed
	u.mu.Unlock()
	if now {
		u.closeBody()
	}
}

func (u *upload) closeBody() { u.close.Do(func() { u.body.Close() }) }

func (u *upload) readFailed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

func (b *attemptBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.holder != b || b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.read = true
	b.mu.Unlock()
	n, err := b.body.Read(p)
	if err != nil {
		b.mu.Lock()
		b.ended = b.ended || err == io.EOF
		b.failed = b.failed || err != io.EOF && !b.closed
		b.mu.Unlock()
	}
	return n, err
}

// InMemory makes b a direct.MemoryBody.
func (b *attemptBody) InMemory() bool {
	body, ok := b.body.(direct.MemoryBody)
	return ok && body.InMemory()
}

func (b *attemptBody) Close() error {
	b.mu.Lock()
	if b.holder != b {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.cut = b.cut || !b.ended && !b.failed && b.ctx.Err() == nil
	now := b.read || b.last
	b.mu.Unlock()
	if now {
		b.closeBody()
	}
	return nil
}

// A responseBody is a response's body. Its Close calls onClose once, because the request
// is in flight until then.
type responseBody struct {
	io.ReadCloser
	onClose func()
	closed  atomic.Bool
}

func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	if b.closed.CompareAndSwap(false, true) {
		b.onClose()
	}
	return err
}

// An upgradedBody is the body of a 101 response: a connection in both directions.
type upgradedBody struct {
	*responseBody
	io.Writer
}

// CloseWrite is called by httputil.ReverseProxy when the client has sent everything.
func (t upgradedBody) CloseWrite() error {
	if c, ok := t.Writer.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return http.ErrNotSupported
}
