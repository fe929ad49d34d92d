package redisstore

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"

	"metergate/quota"
)

// A pipe is one connection to one Redis that all scripts share. They are written as
// they come, without waiting for the answers to earlier ones, and Redis answers in
// their order. That takes a third of the processor time of a connection for each call,
// as go-redis has it: with more goroutines to wake, and a write and a read each.
//
// Who calls does the writing. When other calls are under way it lets other goroutines
// run first: those that are about to call add theirs, and one write takes all of them.
// A lone call has nothing to wait for.
//
// A pipe that breaks, or that owes an answer for longer than the timeout, gets no new
// calls: the next one lays another. What is under way on one that is only slow has
// setupTimeout more, since a call that ends with the pipe is not known to have run.
type pipe struct {
	conn    net.Conn
	timeout time.Duration
	now     func() time.Time
	// failed is told that the pipe has broken or was given up; it does not wait.
	failed func()

	slots   chan struct{} // one for each call that Redis has not answered
	sent    chan *call    // these calls, in their order
	retired chan struct{} // closed when there are to be no new calls

	mu      sync.Mutex
	out     []byte // of calls, not yet written
	spare   []byte // the other buffer; whose turn it is to write may use it
	writing bool   // somebody's turn it is
	gone    bool   // retired is closed
	err     error  // why the pipe broke; nil: it has not
}

// A call is a script that Redis is to run.
type call struct {
	command []byte     // as it is sent
	done    chan error // one place
	timer   *time.Timer
	until   time.Time // when the answer has to be there
	result  result
}

// A result is what a script returns: a list of numbers, and at most one text among
// them, whose number is 0. A number may come as text, too, and what is not there is 0.
type result struct {
	numbers []int64
	text    string
	// When the call was sent and the answer read, by the gateway's clock.
	sent, received time.Time
}

// calls are used again once they are answered; the others are Redis's for ever.
var calls = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &call{done: make(chan error, 1), timer: timer}
}}

// errRetired: the pipe takes no more calls. Nothing was sent.
var errRetired = errors.New("the connection is given up")

// A refusal is an answer that is an error.
type refusal string

func (r refusal) Error() string { return string(r) }

// newPipe takes over a connection on which nothing is under way. Of its calls at most
// so many are under way at a time. The pipe lives until fail.
func newPipe(conn net.Conn, calls int, s *Store) *pipe {
	return &pipe{
		conn: conn, timeout: s.timeout, now: s.now, failed: s.failed,
		slots: make(chan struct{}, calls), sent: make(chan *call, calls), retired: make(chan struct{}),
	}
}

// call sends c and waits for the answer, as long as the store's timeout, or until
// ctx's deadline when that is earlier. Whether ctx is done concerns only the wait for a
// slot: whether a script that was sent has run is known only from its answer.
// Not answered: c must not be looked at any more. Errors: errRetired,
// quota.ErrOverloaded and ctx's, then nothing was sent; a refusal; and a
// *quota.BrokenConnectionError.
func (p *pipe) call(ctx context.Context, c *call) (answered bool, err error) {
	if err := p.enter(ctx); err != nil {
		return true, err
	}
	c.result = result{sent: p.now()}
	if err := p.send(c); err != nil {
		<-p.slots
		return true, err
	}
	late := time.Now().Add(p.timeout)
	c.until = endOf(ctx, p.timeout)
	answered, err = await(c.done, c.timer, c.until)
	if !answered {
		p.miss(c, late)
	}
	return answered, err
}

// miss gives the pipe up if a call that nobody waits for any more is not answered when
// it is late.
func (p *pipe) miss(c *call, late time.Time) {
	if !time.Now().Before(late) {
		p.retire()
		return
	}
	time.AfterFunc(time.Until(late), func() {
		if len(c.done) == 0 {
			p.retire()
		}
	})
}

// enter waits for a slot.
func (p *pipe) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(queueTimeout)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.retired:
		return errRetired
	case <-timer.C:
		return quota.ErrOverloaded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send has c written, by the caller or by who is writing already.
func (p *pipe) send(c *call) error {
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return errRetired
	}
	p.out = append(p.out, c.command...)
	p.sent <- c // has a place for each slot
	mine := !p.writing
	p.writing = true
	p.mu.Unlock()
	if !mine {
		return nil
	}
	if len(p.slots) > 1 {
		runtime.Gosched()
	}
	if p.write() {
		// Others have come meanwhile. The caller has its own answer to wait for.
		go func() {
			for p.write() {
			}
		}()
	}
	return nil
}

// write writes what there is, and reports whether there is more by then. Otherwise
// the turn to write is over.
func (p *pipe) write() (more bool) {
	p.mu.Lock()
	out := p.out
	p.out = p.spare[:0]
	p.mu.Unlock()
	p.conn.SetWriteDeadline(time.Now().Add(p.timeout))
	if _, err := p.conn.Write(out); err != nil {
		p.fail(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = out
	p.writing = len(p.out) > 0 && p.err == nil
	return p.writing
}

// usable reports whether the pipe takes calls.
func (p *pipe) usable() bool {
	select {
	case <-p.retired:
		return false
	default:
		return true
	}
}

// retire ends the pipe, but only after what is under way had its time.
func (p *pipe) retire() {
	p.mu.Lock()
	first := !p.gone
	p.goes()
	p.mu.Unlock()
	if first {
		p.failed()
		time.AfterFunc(p.timeout+setupTimeout, func() { p.fail(errRetired) })
	}
}

func (p *pipe) goes() {
	if !p.gone {
		p.gone = true
		close(p.retired)
	}
}

// fail ends the pipe. All calls under way end with the same *quota.BrokenConnectionError, which
// it returns.
func (p *pipe) fail(err error) error {
	p.mu.Lock()
	first := p.err == nil
	if first {
		p.err = &quota.BrokenConnectionError{Err: err}
	}
	p.goes()
	err = p.err
	p.mu.Unlock()
	if first {
		p.failed()
		p.conn.Close()
	}
	for { // nothing is sent any more
		select {
		case c := <-p.sent:
			p.answer(c, err)
		default:
			return err
		}
	}
}

// answer ends a call.
func (p *pipe) answer(c *call, err error) {
	<-p.slots
	c.done <- err
}

// read hands out the answers until the pipe ends.
func (p *pipe) read() {
	r := bufio.NewReaderSize(p.conn, 16<<10)
	for {
		if _, err := r.Peek(1); err != nil {
			p.fail(err)
			return
		}
		select {
		case c := <-p.sent:
			err := readResult(r, &c.result)
			if _, refused := err.(refusal); err != nil && !refused {
				err = p.fail(err)
			}
			c.result.received = p.now()
			p.answer(c, err)
		default:
			p.fail(errors.New("an answer that nothing was asked for"))
			return
		}
	}
}

// errProtocol: what came is not what scripts answer.
var errProtocol = errors.New("the answer is not a list of numbers")

// readResult reads a script's answer. Errors: a refusal, or that of the connection.
func readResult(r *bufio.Reader, to *result) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	if line[0] == '-' {
		return refusal(line[1:])
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || line[0] != '*' || n < 0 || n > 1<<16 {
		return errProtocol
	}
	to.numbers = make([]int64, n)
	for i := range n {
		if line, err = readLine(r); err != nil {
			return err
		}
		if line[0] == '_' && len(line) == 1 {
			continue // not there
		}
		number, err := strconv.ParseInt(string(line[1:]), 10, 64)
		switch {
		case err != nil:
			return errProtocol
		case line[0] == ':':
			to.numbers[i] = number
		case line[0] == '$' && number == -1: // not there, in the older protocol
		case line[0] == '$' && number >= 0 && number < 1<<20:
			text := make([]byte, number+2)
			if _, err := io.ReadFull(r, text); err != nil {
				return err
			}
			to.add(i, string(text[:number]))
		default:
			return errProtocol
		}
	}
	return nil
}

// add takes a text as what it is.
func (r *result) add(i int, text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		r.text = text
	}
	r.numbers[i] = n
}

// readLine reads a line of at least one byte without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	return line[:len(line)-2], nil
}
