package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/internal/hub"
)

// The scripts announce each change of a user's numbers on a channel of the user's
// own, see announce in common.lua; an announcement that nobody listens to costs
// Redis next to nothing. A gateway listens, over one connection, to the channels of
// the users whom it has watchers of, and tells the watchers to read. Redis may lose
// announcements; when a connection was lost, everybody is told.

// watchers has who watches, by channel.
type watchers struct {
	hub     hub.Hub
	running sync.WaitGroup

	mu     sync.Mutex
	pubsub *redis.PubSub // nil until somebody watches
	want   map[string]struct{}
	wake   chan struct{} // one place: want has changed
}

// Watch sends to ch, without waiting, whenever the user's numbers may have changed,
// until stop is called. ch should have a capacity of 1. What is lost on the way to
// Redis is not sent: read from time to time besides.
func (s *Store) Watch(user string, ch chan<- struct{}) (stop func()) {
	w, channel := &s.watchers, s.key(user)+":changes"
	stop, first := w.hub.Watch(channel, ch, func() { s.listen(channel, false) })
	if first {
		s.listen(channel, true)
	}
	return stop
}

// listen begins or ends to listen to a channel, some time soon.
func (s *Store) listen(channel string, yes bool) {
	w := &s.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pubsub == nil {
		w.pubsub = s.client.Subscribe(context.Background())
		w.want, w.wake = map[string]struct{}{}, make(chan struct{}, 1)
		w.running.Go(s.subscribe)
		w.running.Go(w.receive)
	}
	if yes {
		w.want[channel] = struct{}{}
	} else {
		delete(w.want, channel)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// subscribe keeps the subscriptions to what is wanted, many at a time. An error is
// that of a lost connection, which is made again with all of them.
func (s *Store) subscribe() {
	w, have := &s.watchers, map[string]struct{}{}
	for {
		select {
		case <-w.wake:
		case <-s.closing:
			return
		}
		w.mu.Lock()
		more, less := missing(w.want, have), missing(have, w.want)
		w.mu.Unlock()
		for _, channel := range more {
			have[channel] = struct{}{}
		}
		for _, channel := range less {
			delete(have, channel)
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		if len(more) > 0 {
			_ = w.pubsub.Subscribe(ctx, more...)
		}
		if len(less) > 0 {
			_ = w.pubsub.Unsubscribe(ctx, less...)
		}
		cancel()
	}
}

// missing returns what is in a and not in b.
func missing(a, b map[string]struct{}) (names []string) {
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// receive passes announcements on until the PubSub is closed.
func (w *watchers) receive() {
	for message := range w.pubsub.ChannelWithSubscriptions(redis.WithChannelHealthCheckInterval(time.Second), redis.WithChannelSize(4096)) {
		switch m := message.(type) {
		case *redis.Message:
			w.hub.Notify(m.Channel)
		case *redis.Subscription:
			// It is heard from now on, perhaps once more: something may have been missed.
			w.hub.Notify(m.Channel)
		}
	}
}

// close ends the connection, if there is one, when the store is closing.
func (w *watchers) close() {
	w.mu.Lock()
	if w.pubsub != nil {
		w.pubsub.Close()
	}
	w.mu.Unlock()
	w.running.Wait()
}
