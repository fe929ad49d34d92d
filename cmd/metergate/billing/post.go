package billing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 1 << 20
	// maxFailed is after how many events, each sent by itself, a receiver is taken to be broken if it takes none.
	maxFailed = 10
)

// A part is some events of a batch, and how hard to try.
type part struct {
	events []event
	once   bool // one attempt is enough
}

// deliver sends a batch and returns the bills that were delivered. It splits what a receiver refuses, until
// it knows which events are wrong: they must not hold up the others.
func (r *run) deliver(ctx context.Context, batch []event) (delivered []Bill) {
	began := time.Now()
	var failed []event // the receiver broke each time
	var last verdict
	for parts := []part{{events: batch}}; len(parts) > 0; {
		p := parts[len(parts)-1]
		parts = parts[:len(parts)-1]
		if ctx.Err() != nil {
			r.count(func(report *Report) { report.Unsent += int64(len(p.events)) })
			continue
		}
		if p.events = r.withoutGivenUp(p.events); len(p.events) == 0 {
			continue
		}
		v, err := r.post(ctx, p)
		n := len(p.events)
		switch {
		case err != nil:
			r.stop(err)
			r.count(func(report *Report) { report.Unsent += int64(n) })
		case v.kind == accepted, v.kind == duplicate:
			delivered = append(delivered, r.take(p.events)...)
		case v.kind == sorted && len(v.duplicates)+len(v.refused) > 0:
			bills, rest := r.sort(p.events, v)
			if delivered = append(delivered, bills...); len(rest) > 0 {
				parts = append(parts, part{rest, p.once})
			}
		case n > 1: // rejected, or it did not answer in all the time
			once := p.once || v.kind == again
			parts = append(parts, part{p.events[n/2:], once}, part{p.events[:n/2], once})
		case v.kind == again:
			failed, last = append(failed, p.events[0]), v
			if len(failed) == maxFailed && !r.tookSince(began) {
				r.stop(r.tookNothing(time.Since(began), last, failed[len(failed)-1]))
			}
		default:
			r.refuse(p.events[0], v)
		}
	}
	if len(failed) > 0 && !r.tookSince(began) { // then it is not about these events
		r.stop(r.tookNothing(time.Since(began), last, failed[len(failed)-1]))
		r.count(func(report *Report) { report.Unsent += int64(len(failed)) })
		return delivered
	}
	for _, e := range failed {
		r.refuse(e, last)
	}
	return delivered
}

// tookSince reports whether the receiver has taken an event since.
func (r *run) tookSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastTaken.After(t)
}

// tookNothing says how long a receiver took nothing, and which event was tried last.
func (r *run) tookNothing(d time.Duration, v verdict, e event) error {
	r.mu.Lock()
	before := r.report.Events
	r.mu.Unlock()
	text := fmt.Sprintf("%s has taken nothing for %s: %s", r.To, d.Round(time.Second), v.text)
	if before > 0 {
		text += fmt.Sprintf("; it took %d before, and an event of %s, %s, %s may be to blame", before, r.billed(e.bill), e.bill.Endpoint, hourText(e.bill.Hour))
	}
	return errors.New(text)
}

// take counts events as delivered.
func (r *run) take(events []event) (bills []Bill) {
	r.count(func(report *Report) {
		for _, e := range events {
			bills = append(bills, e.bill)
			report.add(e.bill)
			r.endpoint(e).taken = true
		}
		r.lastTaken = time.Now()
	})
	return bills
}

// sort splits events as a verdict says: into those that are there already, those that are refused, and the
// rest.
func (r *run) sort(events []event, v verdict) (delivered []Bill, rest []event) {
	there := map[int]bool{}
	for _, i := range v.duplicates {
		there[i] = true
	}
	var known []event
	for i, e := range events {
		why, refused := v.refused[i]
		switch {
		case there[i]:
			known = append(known, e)
		case refused:
			r.refuse(e, verdict{text: why})
		default:
			rest = append(rest, e)
		}
	}
	if len(known) > 0 {
		delivered = r.take(known)
	}
	return delivered, rest
}

// refuse counts an event as refused. An endpoint of which many customers are refused and none is taken is
// given up: then it is not about the customers. One customer alone gives up nothing.
func (r *run) refuse(e event, v verdict) {
	r.count(func(report *Report) {
		report.refuse(r.billed(e.bill), e.bill, v.text)
		of := r.endpoint(e)
		if of.taken || of.givenUp {
			return
		}
		if of.refused[e.customer] = true; len(of.refused) == maxRefused {
			of.givenUp = true
			report.Stopped = errors.Join(report.Stopped, fmt.Errorf("%s takes nothing of the endpoint %s: %s", r.To, e.bill.Endpoint, v.text))
		}
	})
}

// endpoint returns what is known of the event's endpoint. The lock is held.
func (r *run) endpoint(e event) *endpoint {
	of := r.endpoints[e.bill.Endpoint]
	if of == nil {
		of = &endpoint{refused: map[string]bool{}}
		r.endpoints[e.bill.Endpoint] = of
	}
	return of
}

// withoutGivenUp returns the events that are still to be sent, and counts the others.
func (r *run) withoutGivenUp(events []event) (rest []event) {
	r.count(func(report *Report) {
		for _, e := range events {
			if r.endpoint(e).givenUp {
				report.Unsent++
			} else {
				rest = append(rest, e)
			}
		}
	})
	return rest
}

// post sends a part, again and again while the receiver neither takes nor refuses it. When the time is
// over, the verdict is again if the part may be to blame. Otherwise there is an error, and so there is
// instead of a verdict of hopeless.
func (r *run) post(ctx context.Context, p part) (verdict, error) {
	began := time.Now()
	broke := false // an event may be to blame
	for failures := 1; ; failures++ {
		if err := r.pace.next(ctx); err != nil {
			return verdict{}, err
		}
		v := r.attempt(ctx, p.events)
		if err := context.Cause(ctx); err != nil && v.kind != accepted {
			return v, err
		}
		switch {
		case v.kind == hopeless:
			return v, fmt.Errorf("%s answers %s", r.To, v.text)
		case v.kind != again, p.once && v.answered:
			return v, nil
		}
		broke = broke || v.answered
		wait := max(v.wait, r.backoff(failures))
		if tried := time.Since(began); tried+wait > r.Retry {
			if broke && (len(p.events) > 1 || r.tookSince(began)) {
				return v, nil
			}
			if v.wait > 0 {
				return v, fmt.Errorf("%s wants to be left alone for %s, after %s of trying: %s", r.To, v.wait.Round(time.Second), tried.Round(time.Second), v.text)
			}
			return v, r.tookNothing(tried, v, p.events[0])
		}
		if v.wait > 0 {
			r.pace.pause(v.wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return v, err
		}
	}
}

// attempt sends events once.
func (r *run) attempt(ctx context.Context, events []event) verdict {
	req, err := r.receiver.request(ctx, r.url, events)
	if err != nil {
		return verdict{kind: hopeless, text: err.Error()}
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	req.Header.Set("User-Agent", "metergate")
	res, err := r.client.Do(req)
	if err != nil {
		return verdict{kind: again, text: err.Error()}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil && res.StatusCode >= http.StatusMultipleChoices {
		body = nil // the status says enough
	}
	return judge(r.receiver, res, body, len(events))
}
