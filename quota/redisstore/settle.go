package redisstore

import (
	"context"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// Commit implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, true)
}

// Release implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, false)
}

// settle is Commit or, without count, Release.
func (s *Store) settle(ctx context.Context, r *quota.Reservation, count bool) (*quota.Snapshot, error) {
	var o outcome
	q := query{script: script.Settle, user: r.User, plans: r.Plans, settles: true}
	withPool := q.poolAccount() != ""
	q.appendArgs = func(args *resp.Args, _ *quota.Plan, _ *layout) {
		own := script.SettleArgs{Count: count, Keep: s.keep, Reservations: []*quota.Reservation{r}, WithPool: withPool}
		own.AppendTo(args)
	}
	err := s.ask(ctx, &q, &o)
	if err != nil {
		return nil, err
	}
	if o.reply.Code == script.Unheld && !r.Unchecked {
		s.lost.Add(1)
		s.CheckData()
	}
	if count {
		s.noteFirstUse(ctx, r, &o)
	}
	snapshot := new(quota.Snapshot)
	o.fill(snapshot)
	return snapshot, nil
}

// Replay commits several reservations of one user in one round trip. It takes some hundreds at
// most, since Redis does nothing else meanwhile. Their Plans may be zero. After an error some of
// them, or all, may be counted: call it again.
func (s *Store) Replay(ctx context.Context, user string, rs []quota.Reservation) error {
	own := script.SettleArgs{Count: true, Keep: s.keep}
	for i := range rs {
		own.Reservations = append(own.Reservations, &rs[i])
	}
	q := query{script: script.Settle, user: user, settles: true}
	own.WithPool = q.poolAccount() != ""
	q.appendArgs = func(args *resp.Args, _ *quota.Plan, _ *layout) { own.AppendTo(args) }
	return s.ask(ctx, &q, new(outcome))
}

// LostHolds implements quota.StoreDiagnostics. Redis loses a hold in a failover, for example.
func (s *Store) LostHolds() int64 { return s.lost.Load() }

// ExpiredHolds implements quota.StoreDiagnostics.
func (s *Store) ExpiredHolds() int64 { return s.expired.Load() }

// FileReplaced implements quota.StoreDiagnostics. The store has no file.
func (s *Store) FileReplaced() int64 { return 0 }

// FileSpace implements quota.StoreDiagnostics. The store has no file.
func (s *Store) FileSpace() (size, free int64) { return 0, 0 }
