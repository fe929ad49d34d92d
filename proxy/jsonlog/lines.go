package jsonlog

import (
	"bytes"
	"cmp"
	"io"
	"sync"
)

const (
	// maxWrite bounds a write of several lines, in bytes. Writes of as many to a pipe are never mixed with those of
	// another process (PIPE_BUF of Linux, pipe(7)): during an upgrade two gateways have the same log.
	maxWrite = 4096
	// maxPending bounds the lines that wait, in bytes.
	maxPending = 64 << 10
)

// A lineWriter writes lines in the order in which it gets them.
type lineWriter struct {
	w io.Writer

	turn    chan struct{} // has room for whoever writes
	written []byte        // what was written last, to be used again; of whoever has the turn

	mu      sync.Mutex
	pending []byte // lines that wait
	awaited bool   // a goroutine will write them
	queued  int    // calls of add that found no room, and are not done yet
}

// add has a line written soon, by another goroutine. Lines that come before that goroutine runs, or while it waits for its turn, are
// written together. If too many wait, add writes them itself: what cannot be written fast enough slows down those who
// cause it. While one of them waits for its turn, later lines queue behind it.
func (w *lineWriter) add(line []byte) {
	w.mu.Lock()
	if w.queued > 0 || len(w.pending)+len(line) > maxPending {
		w.queued++
		w.mu.Unlock()
		w.Write(line)
		w.mu.Lock()
		w.queued--
		w.mu.Unlock()
		return
	}
	w.pending = append(w.pending, line...)
	begin := !w.awaited
	w.awaited = true
	w.mu.Unlock()
	if begin {
		go w.Write(nil)
	}
}

// Write returns when all lines before, and then this one, are written. Its error is the first one of these writes.
func (w *lineWriter) Write(line []byte) (int, error) {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	w.mu.Lock()
	lines := append(w.pending, line...)
	w.pending, w.awaited = w.written[:0], false
	w.mu.Unlock()
	w.written = lines
	if cap(lines) > 2*maxPending { // after a long line
		w.written = nil
	}
	var err error
	for len(lines) > 0 {
		n := sizeOfWrite(lines)
		_, failed := w.w.Write(lines[:n])
		err = cmp.Or(err, failed) // the lines that follow may fit
		lines = lines[n:]
	}
	return len(line), err
}

// sizeOfWrite is the size of as many of the lines as one write may have, at least one.
func sizeOfWrite(lines []byte) int {
	if len(lines) <= maxWrite {
		return len(lines)
	}
	if end := bytes.LastIndexByte(lines[:maxWrite], '\n'); end >= 0 {
		return end + 1
	}
	if end := bytes.IndexByte(lines, '\n'); end >= 0 {
		return end + 1
	}
	return len(lines)
}
