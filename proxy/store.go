package proxy

import (
	"context"
	"time"

	"metergate/proxy/tracing"
	"metergate/quota"
)

// A Store keeps what users have used and what they hold. It is the part of quota.Store
// that the proxy needs, and that is its contract. With an error of Reserve there is
// nothing to settle: package guard, which stands between, has seen to it.
type Store interface {
	Reserve(context.Context, quota.Request) (*quota.Decision, error)
	Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Release(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	CommitRest(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Leave(*quota.Reservation)
	Forget(*quota.Reservation)
	Watch(user string, ch chan<- struct{}) (stop func())
	Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error)
	History(ctx context.Context, user string, days int) (quota.History, error)
}

// A measuredStore reports how long the calls of a Store take.
type measuredStore struct {
	Store
	m      *Metrics
	traced bool // the context of a call may have a span
}

func (s *measuredStore) recordCall(ctx context.Context, operation string, start time.Time) {
	var span *tracing.Span
	if s.traced {
		span = tracing.FromContext(ctx)
	}
	observe(s.m.storeTime.WithLabelValues(operation), time.Since(start), span)
}

func (s *measuredStore) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	defer s.recordCall(ctx, "reserve", time.Now())
	return s.Store.Reserve(ctx, r)
}

func (s *measuredStore) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	defer s.recordCall(ctx, "commit", time.Now())
	return s.Store.Commit(ctx, r)
}

func (s *measuredStore) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	defer s.recordCall(ctx, "commit_rest", time.Now())
	return s.Store.CommitRest(ctx, r)
}

func (s *measuredStore) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	defer s.recordCall(ctx, "release", time.Now())
	return s.Store.Release(ctx, r)
}

func (s *measuredStore) Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error) {
	defer s.recordCall(ctx, "read", time.Now())
	return s.Store.Read(ctx, user, plans)
}

func (s *measuredStore) History(ctx context.Context, user string, days int) (quota.History, error) {
	defer s.recordCall(ctx, "history", time.Now())
	return s.Store.History(ctx, user, days)
}
