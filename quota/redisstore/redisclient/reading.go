package redisclient

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"metergate/quota/rawsocket"
	"metergate/quota/redisstore/resp"
)

// At most one goroutine at a time reads the replies of a pipeline and hands them to the callers. It is
// the reader:
//
//   - A caller who has sent a call and finds no reader becomes the reader until that call is answered. So
//     a lone caller gets its reply without another goroutine that has to be woken first. If other calls
//     are under way by then, or if the call is not answered in time, the attendant becomes the reader.
//   - The attendant is a goroutine of the pipeline. It reads, without a deadline, until no call is under
//     way. It also becomes the reader when nobody has called for a while, so that somebody notices when
//     Redis closes an idle connection.
//
// During that while there is no reader, and an attendant that reads may not have run yet. Therefore a caller who finds
// no call under way looks at the connection before sending. If it was closed, nothing is sent on it.
//
// Where the socket cannot be looked at, because of TLS for example, the attendant is always the reader.

// quiet is how long nobody calls, at the least, before the attendant reads. If it were shorter, callers
// that come again and again would find the attendant reading.
const quiet = 20 * time.Millisecond

// attend is the attendant. It returns when the pipeline has ended.
func (p *pipeline) attend() {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	calls := -1
	for {
		select {
		case <-p.handed:
		case <-timer.C:
			timer.Reset(quiet)
			if !p.becomeQuietReader(&calls) {
				continue
			}
		case <-p.ended:
			return
		}
		p.conn.SetReadDeadline(time.Time{})
		for idle := false; !idle; idle = p.stopReading() {
			if err := p.in.fill(); err != nil {
				p.fail(err)
				return
			}
			if p.deliver() != nil {
				return
			}
		}
		timer.Reset(quiet)
	}
}

// becomeReader reports whether a caller who has sent a call is now the reader.
func (p *pipeline) becomeReader(c *scriptCall) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	became := !p.reading && len(c.done) == 0 // another reader may have read the reply
	p.reading = p.reading || became
	return became
}

// becomeQuietReader reports whether the attendant is now the reader. It becomes the reader if there is
// none, and if there were no more calls than the last time.
func (p *pipeline) becomeQuietReader(calls *int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	became := !p.reading && *calls == p.calls
	*calls = p.calls
	p.reading = p.reading || became
	return became
}

// stopReading reports whether the reader is no longer the reader. It remains so if calls are under way.
func (p *pipeline) stopReading() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = p.owesReply() || !p.in.canLook()
	return !p.reading
}

// readUntil reads until a call of the caller is answered, or until its deadline. The caller is the reader,
// and no longer is afterwards. Not done: the call is still under way.
func (p *pipeline) readUntil(c *scriptCall) (done bool, err error) {
	p.conn.SetReadDeadline(c.deadline)
	for late := false; ; {
		err := p.in.fill()
		switch {
		case err == nil:
			if p.deliver() != nil {
				return true, <-c.done
			}
			if len(c.done) > 0 {
				if !p.stopReading() {
					p.handed <- struct{}{}
				}
				return true, <-c.done
			}
		case !errors.Is(err, os.ErrDeadlineExceeded):
			p.fail(err)
			return true, <-c.done
		case late:
			p.handed <- struct{}{}
			return false, nil
		default: // as in await
			late = true
			p.conn.SetReadDeadline(time.Now().Add(min(time.Since(c.deadline), maxLate)))
		}
	}
}

// deliver hands out the replies that have come whole. An error means that the pipeline has ended.
func (p *pipeline) deliver() error {
	for len(p.in.unread()) > 0 {
		if len(p.sent) == 0 {
			return p.fail(errUnsolicited)
		}
		answers, size, err := resp.ParseAnswers(p.in.unread(), p.answers[:0])
		if err != nil {
			return p.fail(err)
		}
		if size == 0 {
			return nil
		}
		p.in.start += size
		b := p.next()
		if b == nil {
			return p.fail(errUnsolicited)
		}
		err = p.answer(b, answers)
		clear(answers)
		p.answers = answers
		if err != nil {
			return err
		}
	}
	return nil
}

// next returns the batch that the next reply answers. The caller is the reader, and knows that one was sent. nil: the
// pipeline has ended. Then fail takes the batches, and the first that is left may belong to a later reply.
func (p *pipeline) next() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil
	}
	return <-p.sent
}

// answer ends the calls of a batch. A single error answers all of them. An error that it returns means that the pipeline has ended.
func (p *pipeline) answer(b *batch, answers []resp.Answer) (err error) {
	isRefused := len(answers) == 1 && answers[0].Err != nil
	if len(answers) != len(b.calls) && !isRefused {
		err = p.fail(errUnsolicited)
	}
	received := p.now()
	for i, c := range b.calls {
		switch {
		case err != nil:
			p.finish(c, err)
		case isRefused:
			p.finish(c, answers[0].Err)
		default:
			c.reply.Reply, c.reply.Received = answers[i].Reply, received
			p.finish(c, answers[i].Err)
		}
	}
	b.free()
	return err
}

var errUnsolicited = errors.New("a reply to nothing that was sent")

// An inbox has what has come on a connection and was not handed out yet. Only the reader uses it. Only whoever holds
// the pipeline's lock looks.
type inbox struct {
	conn       net.Conn
	buf        []byte
	start, end int // of what is unread

	raw syscall.RawConn // nil: the socket cannot be looked at
	// What looking needs and finds, made once: it would allocate.
	looking func(fd uintptr)
	seen    int
	failed  error
}

// inboxSize is how large a buffer is at first, and again after a long reply.
const inboxSize = 16 << 10 // bytes

func newInbox(conn *renewedConn) *inbox {
	in := &inbox{conn: conn, buf: make([]byte, inboxSize)}
	raw, err := conn.SyscallConn()
	if _, isHidden := raw.(hiddenSocket); rawsocket.CanPeek && err == nil && !isHidden {
		in.raw = raw
	}
	in.looking = func(fd uintptr) { in.seen, in.failed = rawsocket.Peek(fd) }
	return in
}

func (in *inbox) unread() []byte { return in.buf[in.start:in.end] }

// fill reads what has come, or waits until something comes.
func (in *inbox) fill() error {
	switch {
	case in.start == in.end:
		in.start, in.end = 0, 0
		if len(in.buf) > inboxSize {
			in.buf = make([]byte, inboxSize)
		}
	case in.end == len(in.buf):
		unread := in.unread()
		if in.start == 0 {
			in.buf = make([]byte, 2*len(in.buf))
		}
		in.start, in.end = 0, copy(in.buf, unread)
	}
	n, err := in.conn.Read(in.buf[in.end:])
	in.end += n
	if n > 0 {
		return nil
	}
	return err
}

func (in *inbox) canLook() bool { return in.raw != nil }

// look returns an error unless the connection is open and nothing has come. No call may be under way.
func (in *inbox) look() error {
	in.failed = syscall.EAGAIN
	err := in.raw.Control(in.looking)
	switch {
	case err != nil:
		return err
	case in.failed == syscall.EAGAIN:
		return nil
	case in.failed != nil:
		return in.failed
	case in.seen == 0:
		return io.EOF
	}
	return errUnsolicited
}
