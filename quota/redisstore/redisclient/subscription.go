package redisclient

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Subscription is a connection that listens to channels. When it breaks it is made again,
// with all channels. Add and Remove may be called while Receive waits.
type Subscription struct {
	pubsub *redis.PubSub
	heard  atomic.Bool // Redis has said something since checkSilence last looked

	mu   sync.Mutex
	conn *renewedConn // the last one that was dialled

	closed  chan struct{}
	running sync.WaitGroup
}

// Subscribe returns a subscription without channels. Close ends it.
func (c *Client) Subscribe() *Subscription {
	s := &Subscription{pubsub: c.redis.Subscribe(context.Background()), closed: make(chan struct{})}
	s.running.Go(func() { s.checkSilence(max(time.Second, c.timeout)) })
	return s
}

// context has the dialer hand the connection to s.
func (s *Subscription) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, holderKey{}, s)
}

// hold implements connHolder.
func (s *Subscription) hold(c *renewedConn) {
	s.mu.Lock()
	s.conn = c
	s.mu.Unlock()
	c.whenStale(func() { c.Close() })
}

// renew gives the connection up. A Receive that waits returns an error, and the next one makes
// another connection.
func (s *Subscription) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

// checkSilence asks Redis for a sign of life when it has said nothing for some time, and gives
// the connection up when it goes on saying nothing.
func (s *Subscription) checkSilence(longest time.Duration) {
	tick := time.NewTicker(longest)
	defer tick.Stop()
	pinged := false
	for {
		select {
		case <-tick.C:
		case <-s.closed:
			return
		}
		switch {
		case s.heard.Swap(false):
			pinged = false
		case pinged:
			pinged = false
			s.renew()
		default:
			ctx, cancel := context.WithTimeout(s.context(context.Background()), longest)
			pinged = s.pubsub.Ping(ctx) == nil
			cancel()
		}
	}
}

// Add listens to more channels. It does not wait for Redis's replies: Receive returns them.
// After an error the channels are asked for again once there is a connection.
func (s *Subscription) Add(ctx context.Context, channels ...string) error {
	return s.pubsub.Subscribe(s.context(ctx), channels...)
}

// Remove ceases to listen to channels.
func (s *Subscription) Remove(ctx context.Context, channels ...string) error {
	return s.pubsub.Unsubscribe(s.context(ctx), channels...)
}

// Receive waits for what Redis says next: a *redis.Message, or a *redis.Subscription for each
// channel that was added or removed, or that is listened to again on another connection. After
// an error but redis.ErrClosed it can be called again, and makes another connection. It must
// not be called by several goroutines at once.
func (s *Subscription) Receive() (any, error) {
	for {
		message, err := s.pubsub.Receive(s.context(context.Background()))
		if err != nil {
			if reply := redis.Error(nil); errors.As(err, &reply) {
				s.renew() // what was refused here may be served on another connection
			}
			return nil, err
		}
		s.heard.Store(true)
		if _, isPong := message.(*redis.Pong); !isPong {
			return message, nil
		}
	}
}

// Close ends the subscription. A Receive that waits returns an error. It must be called once.
func (s *Subscription) Close() error {
	close(s.closed)
	err := s.pubsub.Close()
	s.running.Wait()
	return err
}
