package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// Plans may have thresholds, see quota.Plan.NotifyAt. The write that counts a request also records what the
// count has crossed. Only one process has the file open, so claims are in memory alone.

// A crossingRecorder records in a write what it crosses.
type crossingRecorder struct {
	retention
	tx       boltfile.Tx
	now      time.Time
	accounts []string // that have a new crossing
}

// recordHold records the thresholds that a hold has crossed. It was just counted.
func (r *crossingRecorder) recordHold(h *hold) error {
	if h.notifies == nil {
		return nil
	}
	own, pool := readOverrides(r.tx.Bucket(plansBucket), h.user, r.now)
	p := h.notifies.Effective(own.Or(pool))
	if len(p.NotifyAt()) == 0 {
		return nil
	}
	after := r.readLimits(p, h.notifies.Terms, func(c quota.Counter) (account string, w quota.Window) {
		account, windows := h.user, h.windows
		if c.Shared {
			account, windows = h.pool, h.poolWindows
		}
		for _, w := range windows {
			if w.Period == c.Period && r.now.Before(w.RetainedUntil(r.keep)) {
				return account, w
			}
		}
		return "", w
	})
	for i, l := range p.Limits() {
		n := after.Limits[i]
		if n.Window.ID == "" || !l.AppliesTo(h.endpoint) {
			continue
		}
		account := h.user
		if p.Counters()[i].Shared {
			account = h.pool
		}
		counted := amounts{}.with(h).used(l.Quantity)
		threshold := quota.CrossedThreshold(n.Used-counted, n.Used, after.Allowance(i), p.NotifyAt())
		if err := r.add(account, after, i, threshold); err != nil {
			return err
		}
	}
	return nil
}

// readLimits reads the counts of a plan's limits. place says where a counter is counted; an empty account:
// nowhere. The result has zeros there.
func (r *crossingRecorder) readLimits(p *quota.Plan, terms bool, place func(quota.Counter) (account string, w quota.Window)) quota.Snapshot {
	counts := make([]quota.Count, len(p.Counters()))
	for i, l := range p.Limits() {
		account, w := place(p.Counters()[i])
		if account == "" {
			continue
		}
		key := appendKey(nil, account, w.ID, l.Endpoint)
		counts[i] = quota.Count{
			Window:  w,
			Used:    decodeAmounts(r.tx.Bucket(usedBucket).Get(key)).used(l.Quantity),
			Granted: decodeAmounts(r.tx.Bucket(grantsBucket).Get(key)).granted(l.Quantity),
		}
		if terms && l.Carry > 0 {
			if t, err := quota.ParseTerms(string(r.tx.Bucket(termsBucket).Get([]byte(account)))); err == nil {
				counts[i].Carried, _ = t.Carried(w.ID, l)
			}
		}
	}
	return p.NewSnapshot(r.now, counts)
}

// add records that limit i of a snapshot has crossed a threshold. With a threshold of 0, it records nothing. A
// crossing that is waiting already stays as it is.
func (r *crossingRecorder) add(account string, s quota.Snapshot, i, threshold int) error {
	if threshold == 0 {
		return nil
	}
	l, n := s.Plan.Limits()[i], s.Limits[i]
	c := quota.Crossing{
		Account: account, At: time.UnixMilli(r.now.UnixMilli()).UTC(), Plan: s.Plan.Name(), Limit: l.Name(), Unit: l.Quantity.String(),
		Used: n.Used, Allowance: s.Allowance(i), Threshold: threshold,
	}
	if l.Quantity == quota.Units {
		c.Unit = s.Plan.UnitName()
	}
	if n.Window.Renews() {
		c.ResetsAt = n.Window.End
	}
	rearmed := decodeNumber(r.tx.Bucket(rearmedBucket).Get(appendKey(nil, account, n.Window.ID, "")))
	c.ID = quota.CrossingID(account, c.Limit, n.Window.ID, threshold, c.Allowance, rearmed)
	isSame := func(w storedCrossing) bool { return w.ID == c.ID }
	if slices.ContainsFunc(readCrossings(r.tx.Tx, account, r.now), isSame) {
		return nil
	}
	bucket := r.tx.Bucket(crossingsBucket)
	number, err := bucket.NextSequence()
	if err != nil {
		return err
	}
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	key := binary.BigEndian.AppendUint64(userKey(account, ""), number)
	if err := bucket.Put(key, value); err != nil {
		return err
	}
	r.accounts = append(r.accounts, account)
	return r.tx.Bucket(endsBucket).Put(crossingEndsKey(c, key), nil)
}

// crossingEndsKey is the key in ends for a crossing with its key.
func crossingEndsKey(c quota.Crossing, key []byte) []byte {
	return endsKey(crossingKind, ceilSeconds(c.At.Add(quota.CrossingLife)), key)
}

// limits is what there is of the account's own limits, in the running windows. Its Plan is nil if none of
// the plans has thresholds.
func (c *changeTx) limits() (s quota.Snapshot) {
	if !c.plans.Notifies() {
		return s
	}
	s = c.readLimits(c.plan(), c.plans.Terms, func(counter quota.Counter) (account string, w quota.Window) {
		if counter.Shared {
			return "", w // it is the pool's
		}
		return c.user, c.terms.WindowAt(c.calendar, counter.Period, c.now)
	})
	for i, l := range s.Plan.Limits() {
		if n := &s.Limits[i]; n.Window.ID != "" && c.plans.Terms {
			if _, known := c.terms.Carried(n.Window.ID, l); !known { // no request has come in this window yet
				n.Carried, _ = c.carried.Carried(n.Window.ID, l)
			}
		}
	}
	return s
}

// recordReached records what is reached after the change, and was not before it: of limits that had
// another plan, or whose counts were set.
func (c *changeTx) recordReached(before quota.Snapshot) error {
	isOne := c.Action == quota.ActionSetCounts || c.Action == quota.ActionSetPlan || c.Action == quota.ActionClearPlan
	if before.Plan == nil || !isOne {
		return nil
	}
	after := c.limits()
	for i, l := range after.Plan.Limits() {
		if after.Limits[i].Window.ID == "" {
			continue
		}
		was := slices.IndexFunc(before.Plan.Limits(), func(other quota.Limit) bool { return other.Name() == l.Name() })
		reached := 0
		for _, t := range after.Plan.NotifyAt() {
			if hasReached(after, i, t) && !hasReached(before, was, t) {
				reached = t
			}
		}
		if err := c.add(c.user, after, i, reached); err != nil {
			return err
		}
	}
	return nil
}

// hasReached reports whether limit i, -1: none, has reached a threshold.
func hasReached(s quota.Snapshot, i, threshold int) bool {
	return i >= 0 && s.Allowance(i) > 0 && s.Limits[i].Used*100 >= int64(threshold)*s.Allowance(i)
}

// rearm notes that counts of a window were taken down: what they reach again is another crossing.
func (c *changeTx) rearm(w quota.Window) error {
	if !c.plans.Notifies() || len(c.plan().NotifyAt()) == 0 {
		return nil
	}
	return c.countRearmed(w)
}

// rearmCounted notes that the account counts by another plan than the one before, nil: none of the plans has
// thresholds. What its counts have reached, or reach, under that is another crossing.
func (c *changeTx) rearmCounted(before *quota.Plan) error {
	if before == nil || c.Action != quota.ActionSetPlan && c.Action != quota.ActionClearPlan {
		return nil
	}
	after := c.plan()
	if after.Name() == before.Name() || len(before.NotifyAt())+len(after.NotifyAt()) == 0 {
		return nil
	}
	for _, per := range quota.Periods() {
		w := c.terms.WindowAt(c.calendar, per, c.now)
		if decodeAmounts(c.tx.Bucket(usedBucket).Get(appendKey(nil, c.user, w.ID, ""))) == (amounts{}) {
			continue
		}
		if err := c.countRearmed(w); err != nil {
			return err
		}
	}
	return nil
}

func (c *changeTx) countRearmed(w quota.Window) error {
	rearmed, key := c.tx.Bucket(rearmedBucket), appendKey(nil, c.user, w.ID, "")
	if err := c.tx.Bucket(endsBucket).Put(windowEndsKey(w, key), nil); err != nil {
		return err
	}
	return rearmed.Put(key, binary.BigEndian.AppendUint64(nil, uint64(decodeNumber(rearmed.Get(key))+1)))
}

// A storedCrossing is a crossing with its key.
type storedCrossing struct {
	quota.Crossing
	key []byte
}

// readCrossings reads the crossings of an account that are kept at now, in the order in which they were
// recorded. It leaves out what it cannot read: a count must not fail for that.
func readCrossings(tx *bolt.Tx, account string, now time.Time) (crossings []storedCrossing) {
	prefix, cursor := userKey(account, ""), tx.Bucket(crossingsBucket).Cursor()
	for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		c := storedCrossing{key: bytes.Clone(k)}
		if json.Unmarshal(v, &c.Crossing) == nil && now.Before(c.At.Add(quota.CrossingLife)) {
			crossings = append(crossings, c)
		}
	}
	return crossings
}

// CrossingsOf returns the crossings of an account, see quota.Crossings. Errors are ErrClosed and those
// of ctx and of the disk.
func (s *Store) CrossingsOf(ctx context.Context, account string) (crossings []quota.Crossing, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.readFile(func(tx *bolt.Tx, now time.Time) error {
		for _, c := range readCrossings(tx, account, now) {
			crossings = append(crossings, c.Crossing)
		}
		return nil
	})
	return crossings, err
}

// EndCrossings drops crossings of an account, see quota.Crossings. It returns when that is on disk.
// Errors are ErrClosed and those of ctx and of the disk.
func (s *Store) EndCrossings(ctx context.Context, account string, ids []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.write(func(tx boltfile.Tx, now time.Time) (created int, err error) {
		for _, c := range readCrossings(tx.Tx, account, now) {
			if !slices.Contains(ids, c.ID) {
				continue
			}
			if err := tx.Bucket(crossingsBucket).Delete(c.key); err != nil {
				return 0, err
			}
			if err := tx.Bucket(endsBucket).Delete(crossingEndsKey(c.Crossing, c.key)); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
}

// findCrossings reads which accounts have crossings.
func (s *Store) findCrossings() error {
	return s.db.View(func(tx *bolt.Tx) error {
		return boltfile.ForEach(tx.Bucket(crossingsBucket), func(k, v []byte) error {
			account, _, _ := bytes.Cut(k, []byte{0})
			var c quota.Crossing
			if json.Unmarshal(v, &c) == nil {
				s.crossings.add([]string{string(account)}, c.At)
			}
			return nil
		})
	})
}

// ClaimCrossings claims the accounts that were due first, see quota.Crossings. Errors are ErrClosed and that
// of ctx.
func (s *Store) ClaimCrossings(ctx context.Context, most int) (claims quota.CrossingClaims, err error) {
	if err := ctx.Err(); err != nil {
		return claims, err
	}
	now, err := s.beginCall()
	if err != nil {
		return claims, err
	}
	defer s.calls.Done()
	return s.crossings.claim(most, now), nil
}

// EndClaim ends a claim, see quota.Crossings. Errors are ErrClosed and those of ctx and of the disk.
func (s *Store) EndClaim(ctx context.Context, claim quota.CrossingClaim, again time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	added, isClaimed := s.crossings.countAdded(claim)
	if !isClaimed {
		return nil
	}
	// The writer takes the lock of the index, so the file is read without it.
	var left []storedCrossing
	var now time.Time
	err := s.readFile(func(tx *bolt.Tx, at time.Time) error {
		left, now = readCrossings(tx, claim.Account, at), at
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(left) == 0:
		s.crossings.remove(claim, added, now)
	default:
		s.crossings.release(claim, left[0].At, now.Add(max(0, again)))
	}
	return nil
}
