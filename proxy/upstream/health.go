package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// unhealthyAfter is how many checks in a row must fail before a target counts as
// unhealthy. One successful check makes it healthy again.
const unhealthyAfter = 2

// runHealthChecks checks a target until the pool is retired.
func (p *Pool) runHealthChecks(t *target) {
	u, _ := url.ParseRequestURI(p.options.Health.Path) // New has validated it
	req := &http.Request{
		Method: http.MethodGet,
		URL:    t.urlOf(u),
		Host:   cmp.Or(p.options.Host, t.hostHeader),
		Header: http.Header{"User-Agent": {"metergate-health"}},
	}
	tick := time.NewTicker(p.options.Health.Interval)
	defer tick.Stop()
	failed := 0
	for {
		err := p.checkOnce(t, req)
		if p.ctx.Err() != nil {
			return
		}
		failed++
		if err == nil || errors.Is(err, ErrNoConnection) { // the latter says nothing of the target
			failed = 0
		}
		p.recordCheck(t, err, failed)
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return
		}
	}
}

// checkOnce sends one check, on the same connections as requests.
func (p *Pool) checkOnce(t *target, req *http.Request) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.options.Health.Timeout)
	defer cancel()
	c := p.cohortForRequest()
	c.inFlight.Add(1)
	defer c.requestEnded()
	res, err := c.roundTrip(t, req.WithContext(ctx), func() {})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be reused
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

// recordCheck takes note of a check; failed counts failed checks in a row, this included.
func (p *Pool) recordCheck(t *target, err error, failed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.checkErr = err
	down := t.unhealthy.Load()
	switch {
	case err == nil && down:
		t.slowStartSince.Store(p.now())
		t.unhealthy.Store(false)
		p.options.Log.Info("target is healthy again", "target", t.name)
	case failed >= unhealthyAfter && !down:
		t.unhealthy.Store(true)
		p.options.Log.Warn("target is unhealthy", "target", t.name, "error", err)
	}
}
