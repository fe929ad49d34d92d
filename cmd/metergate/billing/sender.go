package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"net/http"
	"sync"
	"time"
)

// Options say where bills are sent, and how.
type Options struct {
	To    string // one of ReceiverNames
	URL   string // empty: the receiver's usual one, if it has one
	Token string // empty: none is sent
	// Source is the name of this installation. The ids of events depend on it.
	Source string
	// ByOrg bills organisations in place of their members.
	ByOrg bool
	// Units sends units to receivers that take one amount, in place of requests.
	Units bool
	// Customers are the receiver's ids of users or organisations; nil: their own ids. The key "*" is for all
	// others. NotBilled and ownID as values: see there.
	Customers map[string]string
	// Codes are likewise the receiver's names of endpoints. Those that are not there have the usual one.
	Codes map[string]string
	// Rate is how many requests a second are sent at most; 0: as many as is usual for the receiver.
	Rate float64
	// Retry is how long a request is repeated that the receiver does not take, at most MaxRetry.
	Retry time.Duration
}

const (
	// MaxRetry bounds Options.Retry: the gateway waits no longer for a client that takes no bills.
	MaxRetry = 10 * time.Minute
	// workers is how many requests are under way at most.
	workers = 8
	// attemptTimeout bounds one request.
	attemptTimeout = 30 * time.Second
	// batchBills is how many bills a worker takes at a time, and notes as delivered at a time.
	batchBills = 100
	// maxRefused is after how many customers an endpoint is given up if no event of it was taken by then.
	maxRefused = 100
)

// A Notebook is where deliveries are noted, so that they are not sent again.
type Notebook interface {
	// Sent notes that bills were delivered. It is called concurrently.
	Sent(ctx context.Context, bills []Bill) error
}

// A Sender sends bills to a receiver.
type Sender struct {
	Options
	receiver receiver
	url      string
	client   *http.Client
	// firstBackoff is what constants say; tests wait less.
	firstBackoff time.Duration
}

// New returns a Sender. An error is about the Options, and for the user.
func New(o Options) (*Sender, error) {
	newReceiver, ok := receivers[o.To]
	if !ok {
		return nil, fmt.Errorf("-to must be %s, got %q", ReceiverNames, o.To)
	}
	s := &Sender{Options: o, receiver: newReceiver(&o), firstBackoff: firstBackoff}
	p := s.receiver.properties()
	if s.Rate == 0 {
		s.Rate = p.rate
	}
	s.client = &http.Client{
		Timeout:       attemptTimeout,
		Transport:     newTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would carry the token to another host
	}
	return s, nil
}

// CheckAddress returns what is wrong with the address or the token, and so forbids to send.
func (s *Sender) CheckAddress() (err error) {
	p := s.receiver.properties()
	switch {
	case s.URL == "" && p.defaultURL == "":
		return fmt.Errorf("-url is needed: the address of %s", p.name)
	case s.Token == "" && p.needsToken:
		return fmt.Errorf("%s needs a token, in METERGATE_BILL_TOKEN or in a file for -token-file", p.name)
	}
	if s.url, err = p.resolve(s.URL); err != nil {
		return fmt.Errorf("-url: %w", err)
	}
	return nil
}

func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = workers
	return t
}

// A Report says what a run has done.
type Report struct {
	Events, Requests, Units int64 // that were delivered, also earlier
	Users                   int64 // whose bills were read
	NotBilled               int64 // bills for which nothing is to be sent
	Refused                 int64 // events that the receiver will not take, or that have no customer
	Unsent                  int64 // events that were not delivered
	Unnoted                 int64 // bills that are done with, and not noted
	// Faults are lines about refused events, and MoreFaults is how many events there is no line about.
	Faults     []string
	MoreFaults int64
	// Stopped is why the run ended before all was sent; nil: it did not.
	Stopped error

	faults faults
}

// Complete reports whether nothing is missing.
func (r *Report) Complete() bool {
	return r.Refused == 0 && r.Unsent == 0 && r.Unnoted == 0 && r.Stopped == nil
}

// A run is one call of Send.
type run struct {
	*Sender
	notes Notebook
	pace  *pace
	stop  context.CancelCauseFunc
	seed  maphash.Seed

	mu       sync.Mutex
	report   Report
	progress func(Report)
	// lastTaken is when the receiver last took an event.
	lastTaken time.Time
	endpoints map[string]*endpoint
}

// An endpoint says what the receiver makes of the events of an endpoint.
type endpoint struct {
	taken   bool            // one at least
	refused map[string]bool // customers, while none is taken
	givenUp bool
}

// Send sends bills, and notes them as delivered in parts. progress is told now and then how far it is; it
// must be fast. Bills of one account should follow each other. An error of bills ends the run, after what
// was read is sent.
func (s *Sender) Send(ctx context.Context, bills iter.Seq2[Bill, error], notes Notebook, progress func(Report)) Report {
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &run{Sender: s, notes: notes, pace: newPace(s.Rate), stop: stop, seed: maphash.MakeSeed(), progress: progress, endpoints: map[string]*endpoint{}}
	var queues [workers]queue
	var working sync.WaitGroup
	for i := range queues {
		queues[i] = queue{make(chan event, batchBills), make(chan struct{}, 1)}
		working.Go(func() { r.work(sending, queues[i]) })
	}
	r.read(ctx, sending, bills, &queues)
	for _, queue := range queues {
		close(queue.events)
	}
	working.Wait()
	if err := context.Cause(sending); err != nil {
		r.report.Stopped = errors.Join(r.report.Stopped, err)
	}
	r.report.Faults, r.report.MoreFaults = r.report.faults.lines()
	return r.report
}

// read reads all bills, also those that are not sent any more, to count them.
func (r *run) read(ctx, sending context.Context, bills iter.Seq2[Bill, error], queues *[workers]queue) {
	var last Bill
	for b, err := range bills {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.count(func(report *Report) { report.Stopped = err })
			return
		}
		e, fault := r.newEvent(b)
		r.count(func(report *Report) {
			report.addUser(last, b)
			switch {
			case fault != "":
				report.refuse(r.billed(b), b, fault)
			case sending.Err() != nil && !e.silent:
				report.Unsent++
			}
		})
		last = b
		if fault != "" || sending.Err() != nil {
			continue
		}
		// All events of a customer are one worker's: Stripe takes one at a time. A worker takes events also when
		// it cannot send them any more.
		queues[maphash.String(r.seed, e.customer)%workers].put(e, func() {
			for _, q := range queues {
				q.askToFlush()
			}
		}, r.firstBackoff)
	}
}

// A queue has the events of a worker.
type queue struct {
	events chan event
	flush  chan struct{} // asks the worker to send what it has
}

// put adds an event. If there is no room for a while, it calls blocked, as events of others must not wait for
// this worker.
func (q queue) put(e event, blocked func(), patience time.Duration) {
	select {
	case q.events <- e:
		return
	case <-time.After(patience):
	}
	blocked()
	q.events <- e
}

func (q queue) askToFlush() {
	select {
	case q.flush <- struct{}{}:
	default: // it is asked already
	}
}

// count changes the report.
func (r *run) count(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
	if r.progress != nil {
		r.progress(r.report)
	}
}

// addUser counts the user of a bill, unless the bill before was theirs as well.
func (r *Report) addUser(before, b Bill) {
	if b.User != before.User || b.Org != before.Org {
		r.Users++
	}
}

// add counts a bill as delivered.
func (r *Report) add(b Bill) {
	r.Events++
	r.Requests += b.Requests
	r.Units += b.Units
}

// refuse counts an event that is not taken, and says why.
func (r *Report) refuse(who string, b Bill, why string) {
	r.Refused++
	r.faults.add(who, b, why)
}

// work sends the events of a queue.
func (r *run) work(ctx context.Context, q queue) {
	batch := make([]event, 0, batchBills)
	for {
		select {
		case e, more := <-q.events:
			if !more {
				r.settle(ctx, batch)
				return
			}
			if batch = append(batch, e); len(batch) < batchBills {
				continue
			}
		case <-q.flush:
		}
		r.settle(ctx, batch)
		batch = batch[:0]
	}
}

// settle sends events and notes what was delivered.
func (r *run) settle(ctx context.Context, events []event) {
	var done []Bill
	var loud []event
	for _, e := range events {
		if e.silent {
			done = append(done, e.bill)
			r.count(func(report *Report) { report.NotBilled++ })
		} else {
			loud = append(loud, e)
		}
	}
	for most := r.receiver.properties().most; len(loud) > 0; loud = loud[min(most, len(loud)):] {
		done = append(done, r.deliver(ctx, loud[:min(most, len(loud))])...)
	}
	if len(done) == 0 {
		return
	}
	if err := r.note(ctx, done); err != nil {
		r.count(func(report *Report) { report.Unnoted += int64(len(done)) })
		r.stop(fmt.Errorf("noting what was delivered: %w", err))
	}
}

const (
	noteTries   = 4
	noteTimeout = 30 * time.Second
)

// note notes deliveries, also once the run is stopped.
func (r *run) note(ctx context.Context, bills []Bill) (err error) {
	ctx = context.WithoutCancel(ctx)
	for try := 1; ; try++ {
		call, cancel := context.WithTimeout(ctx, noteTimeout)
		err = r.notes.Sent(call, bills)
		cancel()
		if err == nil || try == noteTries {
			return err
		}
		sleep(ctx, r.backoff(try))
	}
}

// Show writes the events that Send would send, as JSON Lines.
func (s *Sender) Show(w io.Writer, bills iter.Seq2[Bill, error]) (report Report, err error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var last Bill
	for b, err := range bills {
		if err != nil {
			return report, err
		}
		report.addUser(last, b)
		last = b
		e, fault := s.newEvent(b)
		switch {
		case fault != "":
			report.refuse(s.billed(b), b, fault)
		case e.silent:
			report.NotBilled++
		default:
			report.add(b)
			if err := enc.Encode(s.receiver.show(e)); err != nil {
				return report, err
			}
		}
	}
	report.Faults, report.MoreFaults = report.faults.lines()
	return report, nil
}
