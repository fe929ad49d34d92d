package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/internal/hub"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/script"
)

// The scripts announce each change of a user's numbers on a channel for this user, see
// publish_change in common.lua. An announcement to which nobody listens costs Redis next to
// nothing. Over one connection, a gateway listens to the channels of the users that it has
// watchers for, and tells the watchers to read. Redis may lose announcements. After a lost
// connection, all watchers are told.

// watchers knows who watches, by channel.
type watchers struct {
	hub     hub.Hub
	running sync.WaitGroup
	hearing hearing

	mu           sync.Mutex
	subscription *redisclient.Subscription // nil until somebody watches
	wanted       map[string]struct{}
	wake         chan struct{} // one place: wanted has changed
}

const (
	// receivePause is the pause after a connection that broke, and after one on which Redis
	// has refused something.
	receivePause = 100 * time.Millisecond
	refusedPause = time.Second
)

// Watch implements quota.Store. Notifications are lost while Redis cannot be reached.
func (s *Store) Watch(user string, ch chan<- struct{}) (stop func()) {
	w, channel := &s.watchers, script.ChangesChannel(script.Key(s.prefix, user))
	stop, first := w.hub.Watch(channel, ch, func() { s.setWanted(channel, false) })
	if first {
		s.setWanted(channel, true)
	}
	return stop
}

// setWanted has the gateway listen to a channel, or stop listening, some time soon.
func (s *Store) setWanted(channel string, wanted bool) {
	w := &s.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subscription == nil {
		w.subscription = s.client.Subscribe()
		w.wanted, w.wake = map[string]struct{}{}, make(chan struct{}, 1)
		w.running.Go(s.keepSubscribed)
		w.running.Go(s.receive)
	}
	if wanted {
		w.wanted[channel] = struct{}{}
	} else {
		delete(w.wanted, channel)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// keepSubscribed adjusts the subscriptions to what is wanted, many at a time, until the store
// closes. It ignores errors: they are of a lost connection, which the Subscription makes again
// with all channels. It also looks whether Redis confirms them.
func (s *Store) keepSubscribed() {
	w, subscribed := &s.watchers, map[string]struct{}{}
	check := time.NewTicker(checkHearingEvery)
	defer check.Stop()
	for {
		select {
		case <-w.wake:
		case <-check.C:
			s.checkHearing()
			continue
		case <-s.closing:
			return
		}
		w.mu.Lock()
		more, less := missing(w.wanted, subscribed), missing(subscribed, w.wanted)
		w.mu.Unlock()
		for _, channel := range more {
			subscribed[channel] = struct{}{}
		}
		for _, channel := range less {
			delete(subscribed, channel)
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		w.hearing.asked(len(subscribed), len(more) > 0, time.Now())
		if len(more) > 0 {
			_ = w.subscription.Add(ctx, more...)
		}
		if len(less) > 0 {
			_ = w.subscription.Remove(ctx, less...)
		}
		cancel()
	}
}

// missing returns the names that are in a and not in b.
func missing(a, b map[string]struct{}) (names []string) {
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// receive passes announcements on until the store closes.
func (s *Store) receive() {
	w := &s.watchers
	for {
		message, err := w.subscription.Receive()
		if err == nil {
			s.announce(message)
			continue
		}
		w.hearing.lost(time.Now(), err)
		pause := receivePause
		if reply := redis.Error(nil); errors.As(err, &reply) {
			pause = refusedPause
		}
		select {
		case <-time.After(pause):
		case <-s.closing:
			return
		}
	}
}

// announce tells the watchers of a channel that there may be something new.
func (s *Store) announce(message any) {
	w := &s.watchers
	switch m := message.(type) {
	case *redis.Message:
		w.hub.Notify(m.Channel)
	case *redis.Subscription:
		if m.Kind == "subscribe" && w.hearing.confirmed() {
			s.log.Info(hearsAgain)
		}
		// The gateway listens from now on, perhaps again. It may have missed something.
		w.hub.Notify(m.Channel)
	}
}

// close ends the connection, if there is one, when the store is closing.
func (w *watchers) close() {
	w.mu.Lock()
	if w.subscription != nil {
		w.subscription.Close()
	}
	w.mu.Unlock()
	w.running.Wait()
}
