package redisstore

import (
	"context"
	"slices"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// Commit implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, &script.SettleArgs{Count: true, Reservations: []*quota.Reservation{r}})
}

// CommitRest implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	snapshot, err := s.settle(ctx, r, &script.SettleArgs{Rests: []*quota.Reservation{r}})
	if err == nil {
		s.rests.remove(r)
	}
	return snapshot, err
}

// Release implements quota.Store. The snapshot is by the plan and in the windows of now.
func (s *Store) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, &script.SettleArgs{Reservations: []*quota.Reservation{r}})
}

// settle makes a step of a settlement of r.
func (s *Store) settle(ctx context.Context, r *quota.Reservation, own *script.SettleArgs) (*quota.Snapshot, error) {
	o := outcomes.Get().(*outcome)
	defer o.free()
	if !s.client.MayRepeat() {
		own.Forgotten = s.markers.take(r.User)
	}
	if err := s.askToSettle(ctx, r.User, r.Plans, own, o); err != nil {
		s.putMarkersBack(r.User, own.Forgotten)
		return nil, err
	}
	if o.reply.Code == script.Unheld && !r.Unchecked {
		s.lost.Add(1)
		s.CheckData()
	}
	if own.Count {
		s.noteFirstUse(ctx, r, o)
		if r.RestUnits() > 0 && !o.reply.NoRest {
			s.rests.add(r, s.now())
		}
	}
	snapshot := new(quota.Snapshot)
	o.fill(snapshot)
	return snapshot, nil
}

// putMarkersBack is for a settlement that had an error. It is not inlined: see outcomes. The map takes 400 bytes.
//
//go:noinline
func (s *Store) putMarkersBack(user string, fields []string) {
	s.markers.putBack(map[string][]string{user: fields})
}

// askToSettle runs a query that settles reservations of one user. With an error, some may be settled.
func (s *Store) askToSettle(ctx context.Context, user string, plans quota.PlanChoice, own *script.SettleArgs, o *outcome) error {
	own.Keep, own.HistoryDays, own.BillingHours, own.Notifies = s.keep, s.history, s.billing, plans.Notifies()
	q := query{script: own.Script(), user: user, plans: plans, settles: true, settlesRest: len(own.Rests) > 0}
	own.WithPool = q.poolAccount() != ""
	q.settlesOne, q.generally = own.PlainOne(), !own.IsPlain()
	if q.settlesOne != nil {
		q.appendPlain = func(args *resp.Args, p *quota.Plan, l *layout) *resp.Args {
			own.AppendPlain(args)
			return l.termsToSettle(own, p)
		}
	}
	if own.WithAlerts() {
		return s.askToSettleWithAlerts(ctx, &q, own, o)
	}
	q.appendArgs = func(args *resp.Args, _ *quota.Plan, l *layout) {
		own.Indexes = q.reading(l).Indexes
		own.AppendTo(args)
	}
	return s.ask(ctx, &q, o)
}

// askToSettleWithAlerts is askToSettle for a query that records crossings. What its closures share is on the heap. That
// of other queries need not be. It is not inlined: see outcomes.
//
//go:noinline
func (s *Store) askToSettleWithAlerts(ctx context.Context, q *query, own *script.SettleArgs, o *outcome) error {
	notifying, found := *q, new(outcome)
	s.addAlerts(ctx, &notifying, own, found)
	err := s.ask(ctx, &notifying, found)
	s.index.noteRecorded(found.recorded)
	*o = *found
	return err
}

// addAlerts has a query that counts record crossings. The account is put into the index before it may have one,
// unless the Reserve of a request that is held has done so.
func (s *Store) addAlerts(ctx context.Context, q *query, own *script.SettleArgs, o *outcome) {
	pool, isHeld := q.poolAccount(), len(own.Reservations)+len(own.Rests) == 1
	for _, r := range slices.Concat(own.Reservations, own.Rests) {
		isHeld = isHeld && !r.Unchecked
	}
	if !isHeld {
		s.index.expect(ctx, q.user, pool)
	}
	q.beforeRepeat = func() { s.index.expect(ctx, q.user, pool) }
	q.appendArgs = func(args *resp.Args, p *quota.Plan, l *layout) {
		own.Indexes = q.reading(l).Indexes
		own.AppendTo(args)
		caution := script.SettleIfRight
		switch {
		case q.try == askTries-1:
			caution = script.SettleInAnyCase
		case q.try == 0 && isHeld:
			caution = script.SettleIfRightAndHeld
		}
		script.AppendAlerts(args, caution, p.NotifyAt(), func() {
			var done []alertPlace // only of several reservations
			several := len(own.Reservations)+len(own.Rests) > 1
			for i := range l.alerts {
				for _, reservations := range [...][]*quota.Reservation{own.Reservations, own.Rests} {
					for _, r := range reservations {
						w, ok := countedIn(r, p, i)
						if !ok || several && slices.Contains(done, alertPlace{i, w.ID}) {
							continue
						}
						if several {
							done = append(done, alertPlace{i, w.ID})
						}
						appendAlert(args, p, i, w, l, o)
					}
				}
			}
		})
	}
}

// An alertPlace is a limit of a plan, by index, and a window.
type alertPlace struct {
	limit  int
	window string
}

// countedIn returns the window of limit i of a plan in which a reservation counts; false: in none.
func countedIn(r *quota.Reservation, p *quota.Plan, i int) (quota.Window, bool) {
	limit, windows := p.Limits()[i], r.Windows
	if p.Counters()[i].Shared {
		windows = r.PoolWindows
	}
	if limit.AppliesTo(r.Endpoint) {
		for _, w := range windows {
			if w.Period == limit.Period {
				return w, true
			}
		}
	}
	return quota.Window{}, false
}

// crossingsOf returns with which counts the request of a reservation, which is counted in the windows of the layout, crosses thresholds of a
// plan. Not ok: that depends on more.
func (l *layout) crossingsOf(r *quota.Reservation, p *quota.Plan) (crossings []script.Crossing, ok bool) {
	for i := range l.alerts {
		if _, isCounted := countedIn(r, p, i); !isCounted {
			continue
		}
		if p.Limits()[i].Quantity != quota.Requests {
			return nil, false
		}
		for _, percent := range p.NotifyAt() {
			if l.allowed[i] > 0 {
				crossings = append(crossings, script.Crossing{Pair: slices.Index(l.inRedis, l.inRedis[i]) + 1, Count: (int64(percent)*l.allowed[i] + 99) / 100})
			}
		}
	}
	return crossings, true
}

// appendAlert appends the alert of limit i of a plan in a window, which may be over.
func appendAlert(args *resp.Args, p *quota.Plan, i int, w quota.Window, l *layout, o *outcome) {
	if w.ID == l.counts[i].Window.ID {
		args.AddAll(&l.alerts[i])
		return
	}
	terms := &o.account.terms
	if p.Counters()[i].Shared {
		terms = &o.pool.terms
	}
	carried, _ := terms.Carried(w.ID, p.Limits()[i])
	alert := script.Alert{Plan: p, Limit: i, Window: w, Allowed: p.Limits()[i].AllowedIn(w) + carried}
	alert.AppendTo(args)
}

// Replay commits several reservations of one user, and the rests of several, in one round trip. It
// takes some hundreds at most, since Redis does nothing else meanwhile. Their Plans may be zero: then they reach no
// thresholds. After an error some of them, or all, may be counted: call it again.
func (s *Store) Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error {
	own := script.SettleArgs{Count: true}
	for i := range requests {
		own.Reservations = append(own.Reservations, &requests[i])
	}
	for i := range rests {
		own.Rests = append(own.Rests, &rests[i])
	}
	var plans quota.PlanChoice // zero: no count matters
	for _, r := range slices.Concat(own.Reservations, own.Rests) {
		if r.Plans.Notifies() {
			plans = r.Plans
			break
		}
	}
	var o outcome
	if err := s.askToSettle(ctx, user, plans, &own, &o); err != nil {
		return err
	}
	for _, r := range own.Reservations {
		if r.RestUnits() == 0 {
			continue
		}
		answer := &o
		if o.reply.NoRest && len(requests) > 1 { // is it this one that leaves none?
			answer = new(outcome)
			if err := s.askToSettle(ctx, user, plans, &script.SettleArgs{Count: true, Reservations: []*quota.Reservation{r}}, answer); err != nil {
				return err
			}
		}
		if !answer.reply.NoRest {
			s.rests.add(r, s.now())
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
