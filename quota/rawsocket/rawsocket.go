// Package rawsocket writes to sockets and reads from them without telling Go's scheduler about the system
// call.
//
// A system call may wait, so the runtime's monitor (sysmon) watches it. After some 20 µs it hands the
// processor to another thread, which has to be woken. The first thread then finds no processor when
// the call returns, and the monitor stays awake. A write to a socket often takes that long: it wakes
// a process, and the system may let that process run first. But the write never waits: the socket takes what
// it has room for. Also, the monitor falls asleep when nothing happens for a moment, and the next system
// call has to wake it. With 1,000 requests a second, that is the first read of almost every request.
// docs/performance-notes.md says how much processor time all this saves.
//
// The price: if the system takes the processor from a thread in the middle of such a call, a stop of the world, such
// as a garbage collection begins with, has to wait until the thread goes on.
//
// Only sockets of package net are written and read this way. They never block, while files and pipes
// may: see package blocking. The monitor also interrupts goroutines that run for long. It still does: it wakes for every other
// system call, and for the next timer.
package rawsocket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// A Writer writes to a connection as its own Write does: all of p, unless a deadline or Close ends it.
// Its errors are the same. It must not be copied.
type Writer struct {
	conn net.Conn
	raw  syscall.RawConn // see rawConn

	mu    sync.Mutex // held by one Write at a time
	left  []byte     // of what that Write writes
	err   error
	write func(fd uintptr) (done bool) // made once, because it would allocate each time
}

// NewWriter returns a Writer for a connection. If it is no [syscall.Conn], the Writer calls its Write.
func NewWriter(c net.Conn) *Writer {
	w := &Writer{conn: c, raw: rawConn(c)}
	w.write = w.writeLeft
	return w
}

// rawConn returns nil for a connection that is no socket, and on other systems than Linux.
func rawConn(c net.Conn) syscall.RawConn {
	socket, ok := c.(syscall.Conn)
	if !ok || !isRaw {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (w *Writer) Write(p []byte) (int, error) {
	if w.raw == nil || len(p) == 0 {
		return w.conn.Write(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.err = p, nil
	err := w.raw.Write(w.write)
	n := len(p) - len(w.left)
	w.left = nil
	return n, opError(w.conn, "write", err, w.err)
}

// opError returns the error of a connection's own Write or Read, made of that of the RawConn and that of the
// system. It returns nil if both are.
func opError(c net.Conn, name string, err, system error) error {
	if op, ok := err.(*net.OpError); ok {
		op.Op = name // not "raw-write"
	}
	if err != nil || system == nil {
		return err
	}
	return &net.OpError{Op: name, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(name, system)}
}

// writeLeft is called again whenever the socket has room.
func (w *Writer) writeLeft(fd uintptr) (done bool) {
	for len(w.left) > 0 {
		n, err := WriteNow(fd, w.left)
		w.left = w.left[n:]
		if err != nil {
			w.err = err
			return true
		}
		if n == 0 {
			return false
		}
	}
	return true
}

// A Reader reads from a connection as its own Read does. Its errors are the same. It must not be copied.
type Reader struct {
	conn net.Conn
	raw  syscall.RawConn // see rawConn

	mu   sync.Mutex // held by one Read at a time
	into []byte     // what that Read reads into
	n    int
	err  error
	read func(fd uintptr) (done bool) // made once, because it would allocate each time
}

// NewReader returns a Reader for a connection. If it is no [syscall.Conn], the Reader calls its Read.
func NewReader(c net.Conn) *Reader {
	r := &Reader{conn: c, raw: rawConn(c)}
	r.read = r.readWhatHasCome
	return r
}

func (r *Reader) Read(p []byte) (int, error) {
	if r.raw == nil || len(p) == 0 {
		return r.conn.Read(p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.into, r.n, r.err = p, 0, nil
	err := opError(r.conn, "read", r.raw.Read(r.read), r.err)
	r.into = nil
	if err == nil && r.n == 0 {
		err = io.EOF
	}
	return r.n, err
}

// readWhatHasCome is called again whenever something comes.
func (r *Reader) readWhatHasCome(fd uintptr) (done bool) {
	r.n, r.err = ReadNow(fd, r.into)
	return r.err != syscall.EAGAIN
}
