package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// failuresToLeave is how many checks in a row have to fail; one that succeeds
// brings a target back.
const failuresToLeave = 2

// watch checks a target until the pool is retired.
func (p *Pool) watch(t *target) {
	u, _ := url.ParseRequestURI(p.options.Health.Path) // New has made sure of it
	req := &http.Request{
		Method: http.MethodGet,
		URL:    t.at(u),
		Host:   p.options.Host,
		Header: http.Header{"User-Agent": {"metergate-health"}},
	}
	tick := time.NewTicker(p.options.Health.Interval)
	defer tick.Stop()
	failed := 0
	for {
		err := p.check(req)
		if p.ctx.Err() != nil {
			return
		}
		failed++
		if err == nil {
			failed = 0
		}
		p.checked(t, err, failed)
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return
		}
	}
}

// check asks a target once. It goes the way of requests, on their connections.
func (p *Pool) check(req *http.Request) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.options.Health.Timeout)
	defer cancel()
	res, err := p.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

// checked takes note of a check, the failed-th in a row that failed.
func (p *Pool) checked(t *target, err error, failed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.checkErr = err
	down := t.down.Load()
	switch {
	case err == nil && down:
		t.back.Store(p.now())
		t.down.Store(false)
		p.options.Log.Info("target is healthy again", "target", t.name)
	case failed >= failuresToLeave && !down:
		t.down.Store(true)
		p.options.Log.Warn("target is unhealthy", "target", t.name, "error", err)
	}
}
