package proxy

import (
	"context"
	"time"

	"metergate/quota"
)

// A Store keeps what users have used and what they hold. It is the part of quota.Store
// that the proxy needs, and that is its contract. With an error of Reserve there is
// nothing to settle: package guard, which stands between, has seen to it.
type Store interface {
	Reserve(context.Context, quota.Request) (*quota.Decision, error)
	Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Release(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Leave(*quota.Reservation)
	Forget(*quota.Reservation)
	Watch(user string, ch chan<- struct{}) (stop func())
	Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error)
}

// A measuredStore reports the calls of a Store as metrics.
type measuredStore struct {
	Store
	m *Metrics
}

func (s *measuredStore) recordCall(operation string, start time.Time, err *error) {
	s.m.storeTime.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	if *err != nil {
		s.m.storeErrs.WithLabelValues(operation).Inc()
	}
}

func (s *measuredStore) Reserve(ctx context.Context, r quota.Request) (_ *quota.Decision, err error) {
	defer s.recordCall("reserve", time.Now(), &err)
	return s.Store.Reserve(ctx, r)
}

func (s *measuredStore) Commit(ctx context.Context, r *quota.Reservation) (_ *quota.Snapshot, err error) {
	defer s.recordCall("commit", time.Now(), &err)
	return s.Store.Commit(ctx, r)
}

func (s *measuredStore) Release(ctx context.Context, r *quota.Reservation) (_ *quota.Snapshot, err error) {
	defer s.recordCall("release", time.Now(), &err)
	return s.Store.Release(ctx, r)
}

func (s *measuredStore) Read(ctx context.Context, user string, plans quota.PlanChoice) (_ quota.Snapshot, err error) {
	defer s.recordCall("read", time.Now(), &err)
	return s.Store.Read(ctx, user, plans)
}
