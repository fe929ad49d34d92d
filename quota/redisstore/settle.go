package redisstore

import (
	"context"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// Commit implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	snapshot, err := s.settle(ctx, r, script.SettleArgs{Count: true, Reservations: []*quota.Reservation{r}})
	if err == nil && r.RestUnits() > 0 {
		s.rests.add(r, s.now())
	}
	return snapshot, err
}

// CommitRest implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	snapshot, err := s.settle(ctx, r, script.SettleArgs{Rests: []*quota.Reservation{r}})
	if err == nil {
		s.rests.remove(r)
	}
	return snapshot, err
}

// Release implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, script.SettleArgs{Reservations: []*quota.Reservation{r}})
}

// settle makes a step of a settlement of r.
func (s *Store) settle(ctx context.Context, r *quota.Reservation, own script.SettleArgs) (*quota.Snapshot, error) {
	var o outcome
	own.Keep, own.HistoryDays = s.keep, s.history
	q := query{script: own.Script(), user: r.User, plans: r.Plans, settles: true}
	own.WithPool = q.poolAccount() != ""
	q.appendArgs = func(args *resp.Args, _ *quota.Plan, _ *layout) { own.AppendTo(args) }
	err := s.ask(ctx, &q, &o)
	if err != nil {
		return nil, err
	}
	if o.reply.Code == script.Unheld && !r.Unchecked {
		s.lost.Add(1)
		s.CheckData()
	}
	if own.Count {
		s.noteFirstUse(ctx, r, &o)
	}
	snapshot := new(quota.Snapshot)
	o.fill(snapshot)
	return snapshot, nil
}

// Replay commits several reservations of one user, and the rests of several, in one round trip. It
// takes some hundreds at most, since Redis does nothing else meanwhile. Their Plans may be zero. After
// an error some of them, or all, may be counted: call it again.
func (s *Store) Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error {
	own := script.SettleArgs{Count: true, Keep: s.keep, HistoryDays: s.history}
	for i := range requests {
		own.Reservations = append(own.Reservations, &requests[i])
	}
	for i := range rests {
		own.Rests = append(own.Rests, &rests[i])
	}
	q := query{script: own.Script(), user: user, settles: true}
	own.WithPool = q.poolAccount() != ""
	q.appendArgs = func(args *resp.Args, _ *quota.Plan, _ *layout) { own.AppendTo(args) }
	if err := s.ask(ctx, &q, new(outcome)); err != nil {
		return err
	}
	for i := range requests {
		if requests[i].RestUnits() > 0 {
			s.rests.add(&requests[i], s.now())
		}
	}
	for i := range rests {
		s.rests.remove(&rests[i])
	}
	return nil
}

// LostHolds implements quota.StoreDiagnostics. Redis loses a hold in a failover, for example.
func (s *Store) LostHolds() int64 { return s.lost.Load() }

// ExpiredHolds implements quota.StoreDiagnostics.
func (s *Store) ExpiredHolds() int64 { return s.expired.Load() }

// FileReplaced implements quota.StoreDiagnostics. The store has no file.
func (s *Store) FileReplaced() int64 { return 0 }

// FileSpace implements quota.StoreDiagnostics. The store has no file.
func (s *Store) FileSpace() (size, free int64) { return 0, 0 }
