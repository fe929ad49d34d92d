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
	looking       func(fd uintptr) bool
	message       []byte
	wait          bool
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
	own.looking = func(fd uintptr) bool {
		own.seen, own.failed = rawsocket.Peek(fd)
		return own.failed != syscall.EAGAIN || !own.wait
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

// await waits for something to read, and leaves it there. With wait false it only looks.
// Error: nothing will come, or errNothingYet.
func (c *conn) await(wait bool) error {
	c.wait = wait
	if err := c.raw.Read(c.looking); err != nil {
		return err
	}
	switch {
	case c.failed == syscall.EAGAIN:
		return errNothingYet
	case c.failed != nil:
		return c.opError("read", c.failed)
	case c.seen == 0:
		return io.EOF
	}
	return nil
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
	r.from, r.head = c.reader, r.head[:0]
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
