package direct

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// A body is a response's body. At its end the connection becomes idle. Close before that
// closes the connection, also while a Read waits in another goroutine.
type body struct {
	*exchange
	from     io.Reader
	r        *reader
	reusable bool // the connection, once the body has been read
	state    atomic.Int32
	err      error // of the Read that failed
}

const (
	bodyOpen = iota
	bodyEnded
	bodyClosed
)

func (b *body) Read(p []byte) (int, error) {
	switch b.state.Load() {
	case bodyEnded:
		return 0, io.EOF
	case bodyClosed:
		return 0, http.ErrBodyReadAfterClose
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	if err == io.EOF {
		b.end()
	} else if err != nil {
		b.stop()
		b.c.Close()
		if cause := context.Cause(b.req.Context()); cause != nil {
			err = cause
		}
		b.err = err
	}
	return n, err
}

// end makes the connection idle, or closes it.
func (b *body) end() {
	if !b.state.CompareAndSwap(bodyOpen, bodyEnded) {
		return // closed meanwhile
	}
	alive := b.stop()
	if more := b.r.Buffered(); more > 0 {
		text, _ := b.r.Peek(min(more, maxLogged))
		b.t.logUnsolicited(b.c, text)
	}
	if b.reusable && alive && b.r.Buffered() == 0 && b.c.sentAll() {
		b.t.release(b.c)
	} else {
		b.c.Close()
	}
	freeReader(b.r)
}

// Close leaves what it wraps alone: a Read may be in it, and its own Close would read on.
func (b *body) Close() error {
	if b.state.CompareAndSwap(bodyOpen, bodyClosed) {
		b.stop()
		b.c.Close()
	}
	return nil
}
