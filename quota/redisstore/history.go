package redisstore

import (
	"context"
	"fmt"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// History implements quota.Store.
func (s *Store) History(ctx context.Context, account string, days int) (quota.History, error) {
	if days < 1 || days > s.history {
		return quota.History{}, quota.ErrNotKept
	}
	reply, at, err := s.callAlone(ctx, script.History, account, script.AnyOverride, noCounts, func(*resp.Args) {})
	if err != nil {
		return quota.History{}, err
	}
	used, err := script.ParseHistory(reply.Assumed)
	if err != nil {
		return quota.History{}, fmt.Errorf("%w: the history of %q cannot be read: %w", quota.ErrUserData, account, err)
	}
	return quota.NewHistory(s.calendar, at, days, used), nil
}
