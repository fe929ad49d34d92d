// Package rawwrite writes to sockets without telling Go's scheduler about the system call.
//
// A system call may wait, so the runtime's monitor (sysmon) watches it. After some 20 µs it gives the
// processor of the call to another thread, which has to be woken. The first thread then finds no processor when
// the call returns, and the monitor stays awake. A write to a socket often takes that long: it wakes
// a process, and the system may let that one go first. But it never waits: the socket takes what it
// has room for. docs/performance-notes.md says how much processor time this saves.
//
// Only sockets of package net are written so. They never block, while files and pipes may.
package rawwrite

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// A Writer writes to a connection as its own Write does: all of p, unless a deadline or Close ends it.
// Its errors are the same. It must not be copied.
type Writer struct {
	conn net.Conn
	raw  syscall.RawConn // nil: conn is no socket, or the system is not Linux

	mu    sync.Mutex // held by one Write at a time
	left  []byte     // of what that Write writes
	err   error
	write func(fd uintptr) (done bool) // made once, because it would allocate each time
}

// New returns a Writer for a connection. If it is no [syscall.Conn], the Writer calls its Write.
func New(c net.Conn) *Writer {
	w := &Writer{conn: c}
	if socket, ok := c.(syscall.Conn); ok && isRaw {
		if raw, err := socket.SyscallConn(); err == nil {
			w.raw, w.write = raw, w.writeLeft
		}
	}
	return w
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
	if err == nil && w.err != nil {
		err = &net.OpError{Op: "write", Net: w.conn.LocalAddr().Network(), Source: w.conn.LocalAddr(), Addr: w.conn.RemoteAddr(), Err: os.NewSyscallError("write", w.err)}
	} else if op, ok := err.(*net.OpError); ok {
		op.Op = "write" // not "raw-write"
	}
	return n, err
}

// writeLeft is called again whenever the socket has room.
func (w *Writer) writeLeft(fd uintptr) (done bool) {
	for len(w.left) > 0 {
		n, err := Now(fd, w.left)
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
