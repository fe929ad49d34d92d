package direct

import (
	"bufio"
	"bytes"
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
	writing       func(fd uintptr) bool
	receiving     func(fd uintptr) bool
	looking       func(fd uintptr) bool
	message       []byte
	wait          bool
	fd            uintptr // during receiving
	received      *reader
	written, seen int
	failed        error
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
	own.writing = func(fd uintptr) bool {
		own.written, own.failed = rawsocket.WriteNow(fd, own.message)
		return true
	}
	own.receiving = func(fd uintptr) bool {
		r := takeReader(own) // only for now: a request that waits holds no buffer
		own.fd, r.from = fd, (*arrived)(own)
		if _, own.failed = r.Peek(1); own.failed != nil {
			freeReader(r)
			return own.failed != syscall.EAGAIN || !own.wait
		}
		own.received, r.from = r, own.reader
		return true
	}
	own.looking = func(fd uintptr) bool {
		own.seen, own.failed = rawsocket.Peek(fd)
		return true
	}
	return own, nil
}

// send writes a request, or what of it the socket takes at once. A goroutine writes the rest:
// the server may answer before it reads it. begun is false if nothing was or will be sent.
func (c *conn) send(p []byte) (begun bool, err error) {
	c.rest, c.message, c.written, c.failed = nil, p, 0, nil
	err = c.raw.Write(c.writing)
	c.message = nil
	if err == nil {
		err = c.opError("write", c.failed)
	}
	if err != nil || c.written == len(p) {
		return c.written > 0, err
	}
	rest, done := bytes.Clone(p[c.written:]), make(chan error, 1)
	c.rest = done
	go func() {
		_, err := c.Conn.Write(rest)
		done <- err
	}()
	return true, nil
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

// receive waits for the beginning of a response, and returns a reader that has it. With wait false it does not wait.
// Error: nothing will come, or errNothingYet.
func (c *conn) receive(wait bool) (*reader, error) {
	c.wait = wait
	err := c.raw.Read(c.receiving)
	if err == nil {
		err = c.readError()
	}
	r := c.received
	c.received = nil
	return r, err
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

// readError returns why receiving or looking found nothing; nil: it found something.
func (c *conn) readError() error {
	switch c.failed {
	case syscall.EAGAIN:
		return errNothingYet
	case io.EOF:
		return io.EOF
	}
	return c.opError("read", c.failed)
}

var errNothingYet = errors.New("nothing has come")

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

// An arrived reads what has come on a connection, during receiving. Error EAGAIN: nothing has come.
type arrived conn

func (a *arrived) Read(p []byte) (int, error) {
	n, err := rawsocket.ReadNow(a.fd, p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
