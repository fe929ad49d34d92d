package redisstore

import (
	"context"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// The crossings of an account are in its hash, where the step that counts records them. An index says which
// accounts have some, or may have some soon; script/claims.lua has it. In a Redis Cluster the index is elsewhere than the
// hash, so no step can write both. A gateway that dies in between loses no crossing nevertheless: an account is
// in the index before a call that may record a crossing.
//
// A Reserve puts it there when the request, with all others that are held, may take a count to a threshold. That
// is enough: of all requests in the count after a crossing, the one that was reserved last saw the others
// as used or held. Calls that no such Reserve went before put the account there themselves: see addAlerts and
// ApplyChange. What a reply says of a crossing only makes it known sooner.

const (
	// expectEvery is how often the account of requests that may cross a threshold is put into the index. It must be less
	// than LOOK in claims.lua.
	expectEvery = 5 * time.Second
	// maxExpected bounds the accounts of which a gateway remembers that they are in the index.
	maxExpected = 1 << 14
	// maxUnlisted bounds the accounts that wait to be put there in the background.
	maxUnlisted = 1 << 16
	// listBatch bounds a round trip, in accounts.
	listBatch = 200
	// listPause is the pause after Redis has not taken accounts into the index.
	listPause = time.Second
)

// crossingIndex puts accounts into the index. The zero value is not ready.
type crossingIndex struct {
	store *Store
	wake  chan struct{} // capacity 1: there is something in unlisted

	mu       sync.Mutex
	expected map[string]time.Time // when each account was put there, by the gateway's clock
	forgot   int                  // how often expected was forgotten
	failedAt time.Time            // when Redis last did not put one there for a request, by the gateway's clock
	failing  bool                 // it was logged that it fails
	// unlisted has the accounts to put there, and when a crossing of each was recorded; zero: it may have one soon.
	unlisted map[string]time.Time
}

// expectCrossings puts the account of a request that was admitted, or its pool, into the index, if the request may
// cross a threshold. Of one that was held before, the snapshot does not say: it may be in other windows.
func (s *Store) expectCrossings(ctx context.Context, d *quota.Decision, wasHeld bool) {
	own, pool := "", ""
	if wasHeld {
		own, pool = d.Reservation.User, quota.PoolOf(d.Reservation.User)
	}
	p := d.Snapshot.Plan
	for i, l := range p.Limits() {
		c := d.Snapshot.Limits[i]
		if !l.AppliesTo(d.Reservation.Endpoint) || quota.CrossedThreshold(c.Used, c.Used+c.Held, d.Snapshot.Allowance(i), p.NotifyAt()) == 0 {
			continue
		}
		if p.Counters()[i].Shared {
			pool = quota.PoolOf(d.Reservation.User)
		} else {
			own = d.Reservation.User
		}
	}
	s.index.expect(ctx, own, pool)
}

// expect puts accounts into the index that may have a crossing soon; an empty one is none. If Redis does not answer,
// that is tried again in the background: it is not the request's fault.
func (x *crossingIndex) expect(ctx context.Context, accounts ...string) {
	now := x.store.now()
	missing := make(map[string]time.Time)
	x.mu.Lock()
	for _, account := range accounts {
		if at, ok := x.expected[account]; account != "" && (!ok || now.Sub(at).Abs() >= expectEvery) {
			missing[account] = time.Time{}
		}
	}
	waits, forgot := now.Sub(x.failedAt).Abs() < expectEvery, x.forgot
	x.mu.Unlock()
	if len(missing) == 0 {
		return
	}
	if waits {
		x.listLater(missing)
		return
	}
	err := x.list(ctx, missing)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.failedAt = now
		x.addUnlisted(missing)
		return
	}
	if forgot != x.forgot {
		return
	}
	if len(x.expected) >= maxExpected {
		clear(x.expected)
	}
	for account := range missing {
		x.expected[account] = now
	}
}

// forget has accounts put into the index again: there is a new connection, maybe to a replica that lacks some.
func (x *crossingIndex) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.expected)
	x.forgot++
}

// noteRecorded has the gateways look at once at accounts of which a crossing was recorded.
func (x *crossingIndex) noteRecorded(accounts []string) {
	if len(accounts) == 0 {
		return
	}
	recorded, now := make(map[string]time.Time, len(accounts)), x.store.Now()
	for _, account := range accounts {
		recorded[account] = now
	}
	x.listLater(recorded)
}

// listLater has accounts put into the index in the background.
func (x *crossingIndex) listLater(accounts map[string]time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.addUnlisted(accounts)
}

// addUnlisted is listLater for a caller who holds x.mu.
func (x *crossingIndex) addUnlisted(accounts map[string]time.Time) {
	for account, recorded := range accounts {
		if before, ok := x.unlisted[account]; ok && (recorded.IsZero() || !before.IsZero()) || len(x.unlisted) >= maxUnlisted {
			continue
		}
		x.unlisted[account] = recorded
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// someUnlisted returns some accounts that wait to be put into the index.
func (x *crossingIndex) someUnlisted() map[string]time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	some := make(map[string]time.Time)
	for account, recorded := range x.unlisted {
		if len(some) == listBatch {
			break
		}
		some[account] = recorded
	}
	return some
}

// removeUnlisted removes accounts that were put into the index, unless more is known of them since.
func (x *crossingIndex) removeUnlisted(accounts map[string]time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for account, recorded := range accounts {
		if x.unlisted[account].Equal(recorded) {
			delete(x.unlisted, account)
		}
	}
}

// listUntilClosed puts accounts into the index until the store closes, and then those that are left.
func (x *crossingIndex) listUntilClosed() {
	for closing := false; !closing; {
		select {
		case <-x.wake:
		case <-x.store.closing:
			closing = true
		}
		for accounts := x.someUnlisted(); len(accounts) > 0; accounts = x.someUnlisted() {
			if x.list(context.Background(), accounts) == nil {
				x.removeUnlisted(accounts)
				continue
			}
			if closing {
				return
			}
			select {
			case <-time.After(listPause):
			case <-x.store.closing:
				closing = true
			}
		}
	}
}

// list puts accounts into the index.
func (x *crossingIndex) list(ctx context.Context, accounts map[string]time.Time) error {
	_, err := x.store.callClaims(ctx, func(args *resp.Args) { script.AppendList(args, x.store.offset(), accounts) })
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.failing
	x.failing = err != nil
	switch {
	case x.failing && !was:
		x.store.log.Warn("Redis does not note that users have reached thresholds; the notifications may be late", "error", err)
	case was && !x.failing:
		x.store.log.Info("Redis notes again that users have reached thresholds")
	}
	return err
}

// callClaims runs claims.lua.
func (s *Store) callClaims(ctx context.Context, appendArgs func(*resp.Args)) (*resp.Reply, error) {
	args, reply := new(resp.Args), new(redisclient.Reply)
	appendArgs(args)
	due, waiting := script.ClaimsKeys(s.prefix)
	if err := s.client.Run(ctx, script.Claims, due, waiting, args, reply); err != nil {
		return nil, s.explain(err)
	}
	return &reply.Reply, nil
}

// ClaimCrossings implements quota.Store.
func (s *Store) ClaimCrossings(ctx context.Context, most int) (quota.CrossingClaims, error) {
	reply, err := s.callClaims(ctx, func(args *resp.Args) { script.AppendClaim(args, s.offset(), max(0, most)) })
	if err != nil {
		return quota.CrossingClaims{}, err
	}
	return script.ParseClaims(reply)
}

// CrossingsOf implements quota.Store.
func (s *Store) CrossingsOf(ctx context.Context, account string) (crossings []quota.Crossing, err error) {
	text, err := s.readField(ctx, account, script.FieldEvents)
	if err != nil {
		return nil, err
	}
	all, err := script.ParseEvents(account, text)
	oldest := s.Now().Add(-quota.CrossingLife)
	for _, c := range all {
		if c.At.After(oldest) {
			crossings = append(crossings, c)
		}
	}
	return crossings, err
}

// EndCrossings implements quota.Store.
func (s *Store) EndCrossings(ctx context.Context, account string, ids []string) error {
	_, err := s.endCrossings(ctx, account, ids)
	return err
}

// endCrossings drops crossings of an account, and returns what is left there.
func (s *Store) endCrossings(ctx context.Context, account string, ids []string) (script.Left, error) {
	own := script.EventsArgs{IDs: ids}
	reply, _, err := s.callAlone(ctx, script.Events, account, script.AnyOverride, noCounts, own.AppendTo)
	if err != nil {
		return script.Left{}, err
	}
	return script.ParseLeft(reply.Assumed)
}

// EndClaim implements quota.Store.
func (s *Store) EndClaim(ctx context.Context, claim quota.CrossingClaim, again time.Duration) error {
	left, err := s.endCrossings(ctx, claim.Account, nil)
	if err != nil {
		return err
	}
	_, err = s.callClaims(ctx, func(args *resp.Args) { script.AppendFinish(args, s.offset(), claim, left, max(0, again)) })
	return err
}
