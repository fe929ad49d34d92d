package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// Read implements quota.Store.
func (s *Store) Read(ctx context.Context, user string, plans quota.PlanChoice) (snapshot quota.Snapshot, err error) {
	var o outcome
	if err = s.ask(ctx, &query{script: script.Read, user: user, plans: plans}, &o); err == nil {
		o.fill(&snapshot)
	}
	return snapshot, err
}

// ReadAt implements quota.Store.
func (s *Store) ReadAt(ctx context.Context, user string, plans quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	var o outcome
	if err := s.ask(ctx, &query{script: script.Read, user: user, plans: plans, at: at}, &o); err != nil {
		return quota.Snapshot{}, err
	}
	var snapshot quota.Snapshot
	o.fill(&snapshot)
	if w := snapshot.Total.Window; o.at.Before(w.Start) || !o.at.Before(w.RetainedUntil(s.keep)) {
		return quota.Snapshot{}, quota.ErrNotKept
	}
	return snapshot, nil
}

// ClaimedPlan implements quota.Store.
func (s *Store) ClaimedPlan(ctx context.Context, user string) (plan string, err error) {
	return s.readField(ctx, user, script.FieldClaimed)
}

// Running implements quota.Store.
func (s *Store) Running(ctx context.Context, account string) (int64, error) {
	text, err := s.readField(ctx, account, script.FieldPlaces)
	if err != nil || text == "" {
		return 0, err
	}
	return parseNumber(text)
}

// readField returns one field of a user's hash; empty: it is not there. It refuses a hash of
// another format.
func (s *Store) readField(ctx context.Context, user, field string) (string, error) {
	var values []any
	err := s.client.Do(ctx, func(ctx context.Context, r redis.UniversalClient) (err error) {
		values, err = r.HMGet(ctx, script.Key(s.prefix, user), script.FieldFormat, field).Result()
		return err
	})
	if err != nil {
		return "", s.explain(err) // the call may still be under way, and write to values
	}
	if err := script.CheckFormat(values[0]); err != nil {
		return "", fmt.Errorf("%w: %w", quota.ErrUserData, err)
	}
	value, _ := values[1].(string)
	return value, nil
}

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
