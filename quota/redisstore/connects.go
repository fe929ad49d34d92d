package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// onConnect is called with each new connection for scripts before it serves any: what is at the
// other end may not be what was there before. An error refuses the connection.
func (s *Store) onConnect(ctx context.Context, c *redis.Client) error {
	if err := s.checkConnection(ctx, c); err != nil {
		return err
	}
	select {
	case s.connects <- struct{}{}:
	default: // nobody has received the last one yet
	}
	s.places.renewSoon()
	return nil
}

// Connects returns a channel that receives after the gateway has connected to a Redis, for the
// first time or again. It has room for one: several connections may show as one.
func (s *Store) Connects() <-chan struct{} { return s.connects }
