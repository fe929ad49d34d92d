package redisclient

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

// A pipeline is one connection to one Redis that all scripts share. They are written as
// they come, without waiting for the replies to earlier ones, and Redis replies in their
// order. go-redis uses a connection for each call, which takes three times the processor
// time: it wakes more goroutines, and each call needs a write and a read of its own.
//
// The caller does the writing. When other calls are under way it lets other goroutines run
// first: those that are about to call add theirs, and one write takes all of them. A lone
// call has nothing to wait for. Calls of functions that are written together are one command, see
// batch.go. reading.go says who reads the replies.
//
// A pipeline that breaks, or that owes a reply for longer than the timeout, is retired: it
// gets no new calls, and the next call makes another one. Calls under way on a pipeline that
// is only slow have setupTimeout more. If the pipeline were closed at once, nobody would
// know whether they have run.
type pipeline struct {
	conn    *renewedConn
	timeout time.Duration
	now     func() time.Time
	// onFailure is told that the pipeline has broken or was retired; it does not wait.
	onFailure func()

	began     time.Time
	functions functions
	function  string // that serves calls

	places  chan struct{} // one for each call that Redis has not answered
	sent    chan *batch   // these calls, in their order, without those in waiting
	retired chan struct{} // closed when there are to be no new calls

	in     *inbox
	handed chan struct{} // has one place: the attendant is the reader now
	ended  chan struct{} // closed when the pipeline has broken

	answers []resp.Answer // memory for the reader

	mu        sync.Mutex
	waiting   []*scriptCall // for the next write
	out       []byte        // what is written
	encoder   resp.FCallEncoder
	called    []*resp.Call // memory for what the encoder is given
	writing   bool         // a goroutine is writing, or about to
	reading   bool         // there is a reader, see reading.go
	calls     int          // that were sent
	isRetired bool         // retired is closed
	err       error        // why the pipeline broke; nil: it has not
}

// A scriptCall is a script or function that Redis is to run.
type scriptCall struct {
	command []byte // of a script, as it is sent; empty: this is a call of a function
	functionCall
	done     chan error // has one place
	timer    *time.Timer
	deadline time.Time // when the reply has to be there
	reply    Reply
}

// calls holds calls to use again. One that was not answered in time never comes back: its
// pipeline may still write to it.
var calls = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &scriptCall{done: make(chan error, 1), timer: timer}
}}

// errRetired reports that the pipeline takes no more calls. Nothing was sent.
var errRetired = errors.New("the connection is given up")

// newPipeline takes over a connection on which nothing is under way. The pipeline lives
// until fail. It needs an attendant, see attend.
func newPipeline(conn *renewedConn, c *Client) *pipeline {
	p := &pipeline{
		conn: conn, timeout: c.timeout, now: c.now, onFailure: c.onFailure, began: time.Now(), function: c.library.Function,
		places: make(chan struct{}, c.inFlight), sent: make(chan *batch, c.inFlight), retired: make(chan struct{}),
		in: newInbox(conn), handed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if !p.in.canLook() {
		p.reading = true
		p.handed <- struct{}{}
	}
	return p
}

// run sends a call and waits for the reply, as long as the timeout, or until ctx's deadline
// if that is earlier. The end of ctx ends only the wait for a place: whether a script that
// was sent has run, only its reply tells. If the call is not done, it must not be looked at
// any more. Errors: errRetired, quota.ErrOverloaded and ctx's, after which nothing was sent;
// a resp.ErrorReply; and a *quota.BrokenConnectionError.
func (p *pipeline) run(ctx context.Context, c *scriptCall) (done bool, err error) {
	if err := p.acquirePlace(ctx); err != nil {
		return true, err
	}
	c.reply = Reply{Sent: p.now()}
	if err := p.send(c); err != nil {
		<-p.places
		return true, err
	}
	overdue := time.Now().Add(p.timeout)
	c.deadline = earlierDeadline(ctx, overdue)
	if p.becomeReader(c) {
		done, err = p.readUntil(c)
	} else {
		done, err = await(c.done, c.timer, c.deadline)
	}
	if !done {
		p.retireIfOverdue(c, overdue)
	}
	return done, err
}

// retireIfOverdue retires the pipeline if a call that nobody waits for any more is not
// answered when it is overdue.
func (p *pipeline) retireIfOverdue(c *scriptCall, overdue time.Time) {
	if !time.Now().Before(overdue) {
		p.retire()
		return
	}
	time.AfterFunc(time.Until(overdue), func() {
		if len(c.done) == 0 {
			p.retire()
		}
	})
}

// acquirePlace waits until one more call may be under way.
func (p *pipeline) acquirePlace(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(queueTimeout)
	defer timer.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-p.retired:
		return errRetired
	case <-timer.C:
		return quota.ErrOverloaded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send has a call written, by the caller or by the goroutine that is writing already.
func (p *pipeline) send(c *scriptCall) error {
	p.mu.Lock()
	if p.isRetired {
		p.mu.Unlock()
		return errRetired
	}
	if !p.owesReply() && p.in.canLook() {
		if err := p.in.look(); err != nil {
			p.mu.Unlock()
			p.fail(err)
			return errRetired
		}
	}
	p.waiting = append(p.waiting, c)
	p.calls++
	writer := !p.writing
	p.writing = true
	p.mu.Unlock()
	if !writer {
		return nil
	}
	if len(p.places) > 1 {
		runtime.Gosched()
	}
	if p.write() {
		// Others have come meanwhile. The caller has its own reply to wait for.
		go func() {
			for p.write() {
			}
		}()
	}
	return nil
}

// owesReply reports whether any call is not answered yet. The caller holds p.mu.
func (p *pipeline) owesReply() bool { return len(p.sent)+len(p.waiting) > 0 }

// write writes the calls that wait, and reports whether there are more by then. If not, the next
// call needs a new writer.
func (p *pipeline) write() (more bool) {
	p.mu.Lock()
	p.out = p.out[:0]
	p.gather()
	p.mu.Unlock()
	p.conn.SetWriteDeadline(time.Now().Add(p.timeout))
	if _, err := p.conn.Write(p.out); err != nil {
		p.fail(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = len(p.waiting) > 0
	return p.writing
}

// usable reports whether the pipeline takes calls.
func (p *pipeline) usable() bool {
	select {
	case <-p.retired:
		return false
	default:
		return true
	}
}

// retire ends the pipeline, once the calls under way have had their time.
func (p *pipeline) retire() {
	p.mu.Lock()
	first := !p.isRetired
	p.retireLocked()
	p.mu.Unlock()
	if first {
		p.onFailure()
		time.AfterFunc(p.timeout+setupTimeout, func() { p.fail(errRetired) })
	}
}

// retireLocked keeps new calls away. The caller holds p.mu.
func (p *pipeline) retireLocked() {
	if !p.isRetired {
		p.isRetired = true
		close(p.retired)
	}
}

// fail ends the pipeline. All calls under way end with the same *quota.BrokenConnectionError, which
// it returns.
func (p *pipeline) fail(err error) error {
	p.mu.Lock()
	first := p.err == nil
	if first {
		p.err = &quota.BrokenConnectionError{Err: err}
	}
	p.retireLocked()
	err = p.err
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	if first {
		p.onFailure()
		p.conn.Close()
		close(p.ended)
	}
	for _, c := range waiting {
		p.finish(c, err)
	}
	for { // no call is added any more
		select {
		case b := <-p.sent:
			for _, c := range b.calls {
				p.finish(c, err)
			}
		default:
			return err
		}
	}
}

// finish ends a call and frees its place.
func (p *pipeline) finish(c *scriptCall, err error) {
	<-p.places
	c.done <- err
}
