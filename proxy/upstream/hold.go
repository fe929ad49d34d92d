package upstream

import (
	"io"
	"net/http"
	"sync"
)

// One write for a request's header and the beginning of its body.
//
// If a request has a body, http.Transport writes the header at once: the target may refuse the
// request by its header, and the client may take its time with the body. But most bodies are short
// and have arrived together with their header. For them the second write is a waste: it costs the
// gateway as much as the first, and wakes the target again.
//
// Package direct serves most of these requests: it sends one that is in memory in one write. This is for the others. From
// a client with TLS, nothing tells whether a short body has arrived until its Read waits: there, one write takes the
// gateway 8 % less processor time for a request. It also serves targets of https, and the beginning of longer bodies.
//
// So a targetConn holds the header back during the first Read of the body, and then writes both
// together. If that Read has to wait for the client, the header is written before it waits: it is
// never late. This takes a body that notifies the targetConn of the wait.

// A WaitNotifier is a request's body that may know when its Read is about to wait for the client.
type WaitNotifier interface {
	// NotifyBeforeWait has f called each time a Read is about to wait; nil: not any more. Some calls
	// may be needless or late, and come from any goroutine. NotifyBeforeWait returns false if the body
	// does not know when it waits. Then f is never called.
	NotifyBeforeWait(f func()) bool
}

// waitNotifier returns the body of a request, nil if its header must not be held back: a body of unknown
// length may be read before the header is written, and with Expect it waits for the target.
func waitNotifier(r *http.Request) WaitNotifier {
	n, ok := r.Body.(WaitNotifier)
	if !ok || r.ContentLength <= 0 || r.Header["Expect"] != nil {
		return nil
	}
	return n
}

// maxHeld is how many bytes of a header and the beginning of its body are written together. A longer header
// than http.Transport's buffer is not held back. Of a body, up to 4 KiB may have arrived with its header: net/http's
// buffer has that size.
const maxHeld = bufferSize + 4<<10

var heldBuffers = sync.Pool{New: func() any { return new([maxHeld]byte) }}

// A heldHeader is the header that a targetConn holds back.
type heldHeader struct {
	mu     sync.Mutex     // held while the header is written, so that the body does not overtake it
	body   WaitNotifier   // of the same request
	buffer *[maxHeld]byte // nil: nothing is held back, nor was since the body's first Read
	size   int            // of the header, 0 once it has been written
}

// holdBack holds p back if it is the header of a request, and the body knows when it waits.
func (c *targetConn) holdBack(p []byte) bool {
	c.mu.Lock()
	a := c.attempt
	begins := a != nil && a.notifier != nil && !c.requested && !c.closed
	c.mu.Unlock()
	if !begins || len(p) > bufferSize {
		return false
	}
	h := &c.header
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.buffer != nil || !a.notifier.NotifyBeforeWait(c.writeHeader) {
		return false
	}
	h.body, h.buffer = a.notifier, heldBuffers.Get().(*[maxHeld]byte)
	h.size = copy(h.buffer[:], p)
	return true
}

// writeHeader writes the header if it is held back. If that fails, it closes the connection, as
// http.Transport does after a failed write.
func (c *targetConn) writeHeader() {
	if c.tryWriteHeader() != nil {
		c.Close()
	}
}

func (c *targetConn) tryWriteHeader() error {
	h := &c.header
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.size == 0 {
		return nil
	}
	_, err := c.write(h.buffer[:h.size])
	h.size = 0
	return err
}

// ReadFrom sends a request's body. http.Transport calls it as soon as it has written the header.
func (c *targetConn) ReadFrom(body io.Reader) (int64, error) {
	n, err := c.writeWithHeader(body)
	if err == io.EOF {
		return int64(n), nil
	}
	if err != nil {
		return int64(n), err
	}
	rest, err := io.Copy(struct{ io.Writer }{c}, body)
	return int64(n) + rest, err
}

// writeWithHeader writes the header that is held back, and as much of the body as its first Read returns. It
// returns the error of that Read. If nothing is held back, it does nothing.
func (c *targetConn) writeWithHeader(body io.Reader) (n int, err error) {
	h := &c.header
	h.mu.Lock()
	buffer, size := h.buffer, h.size
	h.mu.Unlock()
	if buffer == nil {
		return 0, nil
	}
	n, err = body.Read(buffer[size:])
	h.body.NotifyBeforeWait(nil)

	h.mu.Lock()
	defer h.mu.Unlock()
	unwritten := buffer[size-h.size : size+n]
	h.body, h.buffer, h.size = nil, nil, 0
	if len(unwritten) > 0 && (err == nil || err == io.EOF) {
		if _, failed := c.write(unwritten); failed != nil {
			err = failed
		}
	}
	heldBuffers.Put(buffer)
	return n, err
}
