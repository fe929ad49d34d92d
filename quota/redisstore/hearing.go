package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/redisclient"
)

// A proxy in front of Redis, or the rights of its user, may not let the gateway subscribe. All
// calls then work, and streams show what happens on other gateways only when they next read.
// Nobody would notice, so hearing keeps track of it.

const (
	// checkHearingEvery is how often the gateway looks whether Redis confirms its
	// subscriptions.
	checkHearingEvery = time.Second
	// confirmTimeout is how long Redis may take to confirm a subscription. It is generous:
	// until then streams are late, and nothing else.
	confirmTimeout = 5 * time.Second
	// servedChecks is how many checks in a row must find that Redis serves calls: a Redis that
	// is back may confirm subscriptions a moment later.
	servedChecks = 3
)

// hearing knows whether Redis confirms the subscriptions that a gateway asks for. The zero
// value has asked for none.
type hearing struct {
	mu       sync.Mutex
	channels int       // that are asked for
	waiting  bool      // for a confirmation, of any channel
	since    time.Time // when it began to wait
	served   int       // checks in a row that found Redis serving calls, while it waited for too long
	cause    error     // the last refusal; nil: none
	deaf     bool      // Redis serves calls and confirms no subscription
}

// asked notes how many channels are asked for, and whether some of them are new.
func (h *hearing) asked(channels int, more bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.channels = channels
	if channels == 0 {
		h.waiting = false
	} else if more {
		h.wait(now)
	}
}

// lost notes that the connection broke, or that Redis has refused something on it: all
// channels are asked for again.
func (h *hearing) lost(now time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reply := redis.Error(nil); errors.As(err, &reply) {
		h.cause = err
	}
	if h.channels > 0 {
		h.wait(now)
	}
}

// wait begins to wait, unless it does so already. The caller holds h.mu.
func (h *hearing) wait(now time.Time) {
	if !h.waiting {
		h.waiting, h.since, h.served = true, now, 0
	}
}

// confirmed notes a confirmation, and reports whether the gateway was deaf before.
func (h *hearing) confirmed() (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	again = h.deaf
	h.waiting, h.deaf, h.cause = false, false, nil
	return again
}

// isOverdue reports whether a confirmation is overdue at now, and that is not known yet.
func (h *hearing) isOverdue(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.deaf && h.waiting && now.Sub(h.since) >= confirmTimeout
}

// checked notes whether Redis serves calls while a confirmation is overdue. Deaf: it has done
// so often enough, and cause is why it does not confirm.
func (h *hearing) checked(serves bool, now time.Time) (cause error, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.waiting || h.deaf:
		return nil, false
	case !serves:
		h.since, h.served = now, 0
		return nil, false
	}
	if h.served++; h.served < servedChecks {
		return nil, false
	}
	h.deaf = true
	if h.cause == nil {
		return errNoConfirmation, true
	}
	return h.cause, true
}

// setDeaf notes that Redis does not confirm subscriptions, and reports whether that is new.
func (h *hearing) setDeaf(cause error) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first = !h.deaf
	h.deaf, h.cause = true, cause
	return first
}

func (h *hearing) isDeaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deaf
}

// fault returns why Redis does not confirm subscriptions, if it does not.
func (h *hearing) fault() (cause error, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause == nil {
		return errNoConfirmation, h.deaf
	}
	return h.cause, h.deaf
}

var errNoConfirmation = errors.New("it does not answer SUBSCRIBE")

// deafWarning is for the operator.
func (s *Store) deafWarning(cause error) string {
	cure := "connect to Redis without the proxy in between"
	if redisclient.IsReply(cause) {
		cure = s.adviceOr(cause, s.permit("subscribe", "unsubscribe"))
	}
	return fmt.Sprintf("Redis does not let the gateway subscribe to changes (%v): streams show changes made on other gateways up to 12 s late; %s", cause, cure)
}

const hearsAgain = "Redis confirms subscriptions again: streams show changes made on other gateways at once"

// checkHearing warns when a confirmation is overdue although Redis serves calls. While it does
// not, that is the fault.
func (s *Store) checkHearing() {
	h := &s.watchers.hearing
	if !h.isOverdue(time.Now()) {
		return
	}
	err := s.client.EachMaster(context.Background(), func(ctx context.Context, master *redis.Client) error { return master.Ping(ctx).Err() })
	if cause, deaf := h.checked(err == nil, time.Now()); deaf {
		s.log.Warn(s.deafWarning(cause))
	}
}

// SubscribeFails implements quota.StoreDiagnostics.
func (s *Store) SubscribeFails() bool { return s.watchers.hearing.isDeaf() }

// checkSubscribe subscribes to a channel without meaning, and warns if Redis refuses, or does not
// confirm it in time. Redis serves calls.
func (s *Store) checkSubscribe(ctx context.Context, channel string) {
	subscription := s.client.Subscribe()
	defer subscription.Close()
	ctx, cancel := context.WithTimeout(ctx, min(confirmTimeout, s.timeout+time.Second))
	defer cancel()
	result := make(chan error, 1)
	go func() {
		if err := subscription.Add(ctx, channel); err != nil {
			result <- err
			return
		}
		_, err := subscription.Receive()
		result <- err
	}()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		err = errNoConfirmation
	}
	switch h := &s.watchers.hearing; {
	case err != nil:
		if h.setDeaf(err) {
			s.log.Warn(s.deafWarning(err))
		}
	case h.isDeaf() && h.confirmed():
		s.log.Info(hearsAgain)
	}
}
