package guard

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/ratelog"
)

// A store that answers need not count: a Redis may be a read-only replica, or its user may lack a
// permission. Requests find that out, and circuit breakers open. Checks find it out before there
// are requests: when the gateway starts, every few seconds, and when it has connected anew. Between
// them, an outage is logged once when it begins and once when it ends. A check that fails opens the
// circuit breakers of the parts that do not count.

// health is what the last check has found, and whether an outage was logged. The zero value is ready.
type health struct {
	mu     sync.Mutex
	fault  error // why it failed; nil: it did not
	logged bool  // the beginning of an outage is logged, and its end is not
	began  time.Time
}

func (h *health) setFault(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = err
}

func (h *health) knownFault() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fault
}

// begin notes an outage, and reports whether it is a new one.
func (h *health) begin(now time.Time) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if first = !h.logged; first {
		h.logged, h.began = true, now
	}
	return first
}

// end notes that there is no outage, and reports whether there was one, and since when.
func (h *health) end() (since time.Time, was bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	since, was = h.began, h.logged
	h.logged = false
	return since, was
}

// Check has the backend checked now, and returns why the store does not count; nil: it does. A
// fault must show twice: a single reply can be late, or lost.
func (s *Store) Check(ctx context.Context) error {
	err, ok := s.checkOnce(ctx)
	if ok && err != nil {
		select {
		case <-time.After(probeEvery):
		case <-s.closing:
			return s.Fault()
		}
		err, ok = s.checkOnce(ctx)
	}
	if !ok {
		return s.Fault()
	}
	s.health.setFault(err)
	switch {
	case err != nil:
		s.beginOutage(err)
		s.openFailing(ctx)
	case s.openError() == nil:
		s.endOutage()
		if err := s.openError(); err != nil { // a breaker has just opened
			s.beginOutage(err)
		}
	}
	return s.Fault()
}

// checkOnce returns how a check ended. Not ok: it says nothing about the store.
func (s *Store) checkOnce(ctx context.Context) (err error, ok bool) {
	err, closed := s.untilClosed(func() error { return s.backend.Check(ctx) })
	if closed || errors.Is(err, quota.ErrOverloaded) {
		return nil, false
	}
	if err != nil {
		s.stats.failed[opProbe].Add(1)
	}
	return err, true
}

// openFailing opens the breakers of the partitions that do not count. Requests must not find out
// one by one: a script that fails half-way, for the lack of a permission, may have counted.
func (s *Store) openFailing(ctx context.Context) {
	var probes sync.WaitGroup
	for i, user := range s.probeUsers() {
		probes.Go(func() {
			err, closed := s.untilClosed(func() error { return s.backend.Probe(ctx, user) })
			if err != nil && !closed && !errors.Is(err, quota.ErrOverloaded) && s.breakers[i].openNow(user, err) {
				s.onOpened(&s.breakers[i], err)
			}
		})
	}
	probes.Wait()
}

// probeUsers returns a name for each partition that belongs to it.
func (s *Store) probeUsers() []string {
	users := make([]string, len(s.breakers))
	for n, found := 0, 0; found < len(users); n++ {
		name := strconv.Itoa(n)
		if i := s.backend.Partition(name); users[i] == "" {
			users[i] = name
			found++
		}
	}
	return users
}

// Fault returns why the store does not count, as far as is known: why a circuit breaker is open, or
// why the last check failed. nil: it counts. It does not ask the store.
func (s *Store) Fault() error {
	if err := s.openError(); err != nil {
		return err
	}
	return s.health.knownFault()
}

// keepChecking checks the backend until the Store is closed. While a circuit breaker is open, its
// probe does the same.
func (s *Store) keepChecking(every time.Duration) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.backend.Connects():
		case <-s.closing:
			return
		}
		if s.openError() == nil {
			s.Check(context.Background())
		}
		timer.Reset(every)
	}
}

// untilClosed calls f, and waits until it has returned or the Store is closed. Then f may still run,
// and ends with the backend.
func (s *Store) untilClosed(f func() error) (err error, closed bool) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err = <-done:
		return err, false
	case <-s.closing:
		return nil, true
	}
}

func (s *Store) beginOutage(err error) {
	if !s.health.begin(time.Now()) {
		return
	}
	keptIn := "the journal"
	if s.journal == nil {
		keptIn = "memory only"
	}
	onFailure := "deny"
	if s.allowOnFailure {
		onFailure = "allow"
	}
	s.logs.began.Log("new_counts_in", keptIn, "on_failure", onFailure, "error", err)
}

func (s *Store) endOutage() {
	if since, was := s.health.end(); was {
		s.logs.ended.Log("after", time.Since(since).Round(time.Millisecond).String(), "backlog", s.stats.backlog.Load())
	}
}

// logs are the lines of a Store that can come one after the other.
type logs struct{ began, ended, userData, dropped *ratelog.Line }

func newLogs(log *slog.Logger) logs {
	return logs{
		began:    ratelog.New(log, slog.LevelError, "the gateway cannot count in the store"),
		ended:    ratelog.New(log, slog.LevelInfo, "the gateway counts in the store again"),
		userData: ratelog.NewEvery(log, slog.LevelError, time.Minute, "the counts of a user wait, since the store cannot use what it has of them"),
		dropped:  ratelog.New(log, slog.LevelWarn, "dropped counts from the journal: their windows are no longer kept"),
	}
}
