package direct

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"syscall"
	"time"

	"metergate/quota/rawsocket"
)

var (
	errHeaderTooLong = fmt.Errorf("the response's header has more than %d bytes", maxHeader)
	errNoDescriptor  = errors.New("the connection has no descriptor")
)

// A conn is a connection. One exchange has it at a time.
type conn struct {
	net.Conn
	raw    syscall.RawConn
	reader *rawsocket.Reader
	host   *host
	abort  func() // closes it
	reused bool   // it has carried a request before
	since  time.Time
	// rest has the error of sending the rest of a request; nil: all of it was sent at once.
	rest chan error

	// What raw's callbacks need and find. They are made once, because each would allocate.
	exchanging func(fd uintptr) bool
	looking    func(fd uintptr) bool
	sending    *exchange // until its request is sent
	sendErr    error
	fd         uintptr // during exchanging
	received   *reader
	seen       int
	failed     error
}

func newConn(c net.Conn, h *host) (*conn, error) {
	descriptor, ok := c.(syscall.Conn)
	if !ok {
		c.Close()
		return nil, errNoDescriptor
	}
	raw, err := descriptor.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	own := &conn{Conn: c, raw: raw, host: h, abort: func() { c.Close() }}
	own.reader = rawsocket.NewReader(c)
	own.exchanging = own.tryExchange
	own.looking = func(fd uintptr) bool {
		own.seen, own.failed = rawsocket.Peek(fd)
		return true
	}
	return own, nil
}

// exchange sends a request, and waits for the beginning of a response. It returns a reader that has it.
//
// Error errStale: nothing was sent, because something has come on the connection since it was last used, or its end.
func (c *conn) exchange(e *exchange) (*reader, error) {
	c.sending, c.rest, c.sendErr = e, nil, nil
	err := c.raw.Read(c.exchanging)
	if err == nil {
		err = c.readError()
	}
	r := c.received
	c.sending, c.received = nil, nil
	if err != nil {
		return nil, cmp.Or(c.sendErr, err)
	}
	return r, nil // also if not all of the request was sent: a server may answer before it has read that
}

// tryExchange goes as far as it can without waiting. It is called again when something has come since the first call began.
func (c *conn) tryExchange(fd uintptr) (done bool) {
	if e := c.sending; e != nil {
		c.sending = nil
		if c.reused {
			if _, c.failed = rawsocket.Peek(fd); c.failed != syscall.EAGAIN {
				c.failed = errStale
				return true
			}
		}
		c.send(fd, e)
		if c.reused && c.sendErr == nil {
			return false // nothing had come before
		}
	}
	r := takeReader(c) // only for now: a request that waits holds no buffer
	c.fd, r.from = fd, (*arrived)(c)
	if _, c.failed = r.Peek(1); c.failed != nil {
		freeReader(r)
		return c.failed != syscall.EAGAIN || c.sendErr != nil
	}
	c.received, r.from = r, c.reader
	return true
}

// send writes a request, or what of it the socket takes at once. A goroutine writes the rest:
// the server may answer before it reads it.
func (c *conn) send(fd uintptr, e *exchange) {
	p := e.message.Bytes()
	n, err := rawsocket.WriteNow(fd, p)
	c.sendErr = c.opError("write", err)
	if err == nil && n < len(p) {
		rest, done := bytes.Clone(p[n:]), make(chan error, 1)
		c.rest = done
		go func() {
			_, err := c.Conn.Write(rest)
			done <- err
		}()
	}
	if n > 0 || err == nil {
		e.hasBegun()
	}
}

// sentAll reports whether the whole request was sent.
func (c *conn) sentAll() bool {
	if c.rest == nil {
		return true
	}
	select {
	case err := <-c.rest:
		return err == nil
	default:
		return false
	}
}

// look returns nil if there is something to read, which it leaves there. Error: nothing will come, or errNothingYet.
func (c *conn) look() error {
	if err := c.raw.Read(c.looking); err != nil {
		return err
	}
	if c.failed == nil && c.seen == 0 {
		return io.EOF
	}
	return c.readError()
}

// readError returns why an exchange or a look found nothing; nil: it found something.
func (c *conn) readError() error {
	switch c.failed {
	case syscall.EAGAIN:
		return errNothingYet
	case io.EOF, errStale:
		return c.failed
	}
	return c.opError("read", c.failed)
}

var (
	errNothingYet = errors.New("nothing has come")
	errStale      = errors.New("the connection cannot carry another request")
)

// opError wraps an error as package net does. It returns nil for nil.
func (c *conn) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

// A reader reads a response.
type reader struct {
	bufio.Reader
	from io.Reader
	left int64  // bytes that may still be read
	head []byte // the beginning of what was read while left was bounded
}

// maxRecorded is how much of a header is recorded, in bytes, or a little more.
const maxRecorded = 16 << 10

const noLimit = math.MaxInt64

func newReader() *reader { return new(reader) }

func takeReader(c *conn) *reader {
	r := readers.Get().(*reader)
	r.from, r.left, r.head = c.reader, maxHeader, r.head[:0]
	r.Reset((*limited)(r))
	return r
}

// freeReader puts a reader back. Nobody may read from it any more.
func freeReader(r *reader) {
	r.from = nil
	readers.Put(r)
}

// A limited reads no more than is left.
type limited reader

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := l.from.Read(p[:min(int64(len(p)), l.left)])
	if l.left < noLimit && len(l.head) < maxRecorded {
		l.head = append(l.head, p[:n]...)
	}
	l.left -= int64(n)
	return n, err
}

// An arrived reads what has come on a connection, during exchanging. Error EAGAIN: nothing has come.
type arrived conn

func (a *arrived) Read(p []byte) (int, error) {
	n, err := rawsocket.ReadNow(a.fd, p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
