package upstream

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

var errBodyTouched = errors.New("the connection broke after the request's body was begun")

// An upload is a request's body. It knows whether it was touched, and gives it to
// one attempt at a time: an http.Transport that gave up may still read and close
// what it was given.
type upload struct {
	rc    io.ReadCloser
	close sync.Once

	mu      sync.Mutex
	holder  *part
	touched bool // a Read was begun
	closed  bool // by the holder
	last    bool // no other attempt follows
	failed  bool // a Read failed: the client is to blame
}

// A part is the body of one attempt.
type part struct{ *upload }

// take gives the body to a new attempt, and takes it from the one that has it. It
// fails when that one has begun to read it. It is a Request.GetBody.
func (u *upload) take() (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.touched {
		return nil, errBodyTouched
	}
	u.holder, u.closed = &part{u}, false
	return u.holder, nil
}

// end has the body closed: now if the request failed or the holder has closed it,
// and else when it does. Until then an untouched body stays open for the next attempt.
func (u *upload) end(failed bool) {
	u.mu.Lock()
	u.last = true
	now := failed || u.closed
	u.mu.Unlock()
	if now {
		u.shut()
	}
}

func (u *upload) shut() { u.close.Do(func() { u.rc.Close() }) }

func (u *upload) hasFailed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

func (b *part) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.holder != b || b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.touched = true
	b.mu.Unlock()
	n, err := b.rc.Read(p)
	if err != nil && err != io.EOF {
		b.mu.Lock()
		b.failed = b.failed || !b.closed
		b.mu.Unlock()
	}
	return n, err
}

func (b *part) Close() error {
	b.mu.Lock()
	if b.holder != b {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	now := b.touched || b.last
	b.mu.Unlock()
	if now {
		b.shut()
	}
	return nil
}

// A download is a response's body, which ends a request in flight with its Close.
type download struct {
	io.ReadCloser
	end  func()
	once atomic.Bool
}

func (d *download) Close() error {
	err := d.ReadCloser.Close()
	if d.once.CompareAndSwap(false, true) {
		d.end()
	}
	return err
}

// A tunnel is the body of a 101 response: a connection.
type tunnel struct {
	*download
	io.Writer
}

// CloseWrite is what httputil.ReverseProxy calls when the client has said all.
func (t tunnel) CloseWrite() error {
	if c, ok := t.Writer.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return http.ErrNotSupported
}
