package boltstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// Some plans give accounts windows of their own, or carry over what was left, see quota.Terms. The
// terms of an account are worked out from those in the file, with its shard locked, and written
// before a request is reserved by them. Reads only take for granted that they were written.

// A purpose says why the terms of an account are worked out.
type purpose uint8

const (
	onlyReading purpose = iota
	reserving
	counting // a request was just counted
)

// An accountTx is an account as a reader of the file sees it. Its shard is locked.
type accountTx struct {
	store *Store
	tx    boltfile.Reader
	shard *shard
	user  string
	now   time.Time
}

// stored returns the terms in the file.
func (a *accountTx) stored() (quota.Terms, error) {
	return quota.ParseTerms(string(a.tx.Bucket(termsBucket).Get([]byte(a.user))))
}

// upToDate returns the terms as they should be under the plan p, and whether that may be others than t.
func (a *accountTx) upToDate(t quota.Terms, plans quota.PlanChoice, p *quota.Plan, purpose purpose) (after quota.Terms, changed bool) {
	if !t.Follows(p, plans, a.now) {
		changed = true
		activity := quota.Activity{Windows: windowsWithCounts(a.tx, a.user), Held: a.isHeld(), Counting: purpose == counting, Reading: purpose == onlyReading}
		t = t.Follow(p, plans, a.store.calendar, a.now, activity)
	}
	due := t.CarryDue(p, a.store.calendar, a.now)
	if len(due) == 0 {
		return t, changed
	}
	counted := windowsWithCounts(a.tx, a.user)
	for _, i := range due {
		before := a.countBefore(t, p.Limits()[i], p.Counters()[i])
		t = t.CarryOver(p.Limits()[i], before, counted, a.store.calendar, a.now)
	}
	return t, true
}

// countBefore returns what there is of a limit in the window before the running one. Nothing is
// reserved there any more.
func (a *accountTx) countBefore(t quota.Terms, limit quota.Limit, c quota.Counter) quota.Count {
	w := t.WindowBefore(a.store.calendar, limit.Period, a.now)
	key := appendKey(nil, a.user, w.ID, limit.Endpoint)
	count := quota.Count{
		Window:  w,
		Used:    decodeAmounts(a.tx.Bucket(usedBucket).Get(key)).used(limit.Quantity),
		Granted: decodeAmounts(a.tx.Bucket(grantsBucket).Get(key)).granted(limit.Quantity),
	}
	write := a.tx.Number
	for _, h := range a.shard.holds[a.user] {
		if h.countsIn(a.user, c, w) {
			count.Held += h.heldAfter(write, a.now).used(c.Quantity)
		}
	}
	return count
}

// carriedTerms returns the terms of an account with what was carried into its running windows, before a change. They
// are not written: the next request does that.
func (s *Store) carriedTerms(sh *shard, account string, plans quota.PlanChoice, now time.Time) (t quota.Terms, err error) {
	if !plans.Terms {
		return t, nil
	}
	plans.Anchor = nil
	err = s.dbView(func(tx boltfile.Reader) (err error) {
		own, pool := readOverrides(tx.Bucket(plansBucket), account, now)
		p := termsPlan(plans.Effective(own.Or(pool)), account, account)
		t, err = s.termsIn(tx, sh, account, plans, p, now, true, onlyReading)
		return err
	})
	return t, err
}

// isHeld reports whether a request of the account is held.
func (a *accountTx) isHeld() bool {
	for _, h := range a.shard.holds[a.user] {
		if h.isRest || h.isCommitting() || a.now.Before(h.leaseEnd) {
			return true
		}
	}
	return false
}

// windowsWithCounts returns the IDs of the windows in which something is counted of, or granted to, a
// user.
func windowsWithCounts(tx boltfile.Reader, user string) (ids []string) {
	prefix := userKey(user, "")
	for _, name := range [][]byte{usedBucket, grantsBucket} {
		cursor := tx.Bucket(name).Cursor()
		for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); {
			id, _, _ := bytes.Cut(k[len(prefix):], []byte{0})
			ids = append(ids, string(id))
			k, _ = cursor.Seek(append(append(bytes.Clone(prefix), id...), 1)) // after the window's keys
		}
	}
	return ids
}

// termsTries is how often terms are worked out until they are written, or were found to be.
const termsTries = 100

// keepTerms writes the terms of an account, and of its pool, if they are not up to date. The plans say
// whether there are terms at all.
func (s *Store) keepTerms(wait *termsWait, user string, plans quota.PlanChoice, purpose purpose) error {
	if !plans.Terms {
		return nil
	}
	if pool := quota.PoolOf(user); pool != "" {
		if err := s.keepTermsOf(wait, pool, user, plans, purpose); err != nil {
			return err
		}
	}
	return s.keepTermsOf(wait, user, user, plans, purpose)
}

// keepTermsOf is keepTerms for one account that a request of a user is about: their own or their pool.
func (s *Store) keepTermsOf(wait *termsWait, account, user string, plans quota.PlanChoice, purpose purpose) error {
	for range termsTries {
		sh, now, err := s.lockForTerms(wait, account)
		if err != nil {
			return err
		}
		var before, after quota.Terms
		var p *quota.Plan
		counted, changed := 0, false
		err = s.dbView(func(tx boltfile.Reader) (err error) {
			a := accountTx{s, tx, sh, account, now}
			if before, err = a.stored(); err != nil {
				return err
			}
			own, pool := readOverrides(tx.Bucket(plansBucket), user, now)
			p = termsPlan(plans.Effective(own.Or(pool)), account, user)
			after = before
			if p != nil {
				if after, changed = a.upToDate(before, plans, p, purpose); changed && before.MovesRunning(after, s.calendar, now) {
					counted = len(windowsWithCounts(tx, account))
				}
			}
			return nil
		})
		if err != nil || !changed || before.String() == after.String() {
			sh.mu.Unlock()
			return err
		}
		s.calls.Add(1)
		w := &pendingTerms{user: account, before: before.String(), after: after.Prune(s.calendar, now, s.keep), done: make(chan struct{})}
		w.movesRunning, w.windows = before.MovesRunning(after, s.calendar, now), counted
		sh.beginTermsWrite(account, w.done)
		sh.mu.Unlock()
		s.queue.Add(queuedWrite{terms: w})
		err = wait.until(w.done) // without its caller, the write goes on
		s.calls.Done()
		if err != nil {
			return err
		}
		if w.err != nil || purpose == counting {
			return w.err
		}
		s.watchers.Notify(account)
	}
	return quota.ErrContended
}

// termsPlan returns what of a user's plan goes by the terms of an account, their own or their pool: the
// limits of a member or the shared ones; nil: nothing does.
func termsPlan(p *quota.Plan, account, user string) *quota.Plan {
	switch {
	case account != user && !p.PoolNeedsTerms():
		return nil
	case account != user:
		return p.ForScope(quota.PoolScope)
	case quota.ScopeOf(user) == quota.MemberScope:
		return p.ForScope(quota.UserScope)
	}
	return p
}

// noteFirstUse notes the day of the first counted request of an account, right after it was counted.
// What fails is made up for by the next request.
func (s *Store) noteFirstUse(ctx context.Context, r *quota.Reservation) {
	if r.Plan != nil && r.Plan.Anchor() == quota.FirstUseAnchor {
		_ = s.keepTerms(&termsWait{ctx: ctx, timeout: s.timeout}, r.User, r.Plans, counting)
	}
}

// errTermsChanged: the terms in the file are not up to date any more. A request must not be reserved by
// others.
var errTermsChanged = errors.New("the terms of the user have changed")

// lockForTerms is lockUser once no terms of the account are being written.
func (s *Store) lockForTerms(wait *termsWait, account string) (*shard, time.Time, error) {
	for {
		sh, now, err := s.lockUser(account)
		if err != nil {
			return nil, now, err
		}
		write := sh.termsWrite(account)
		if write == nil {
			return sh, now, nil
		}
		sh.mu.Unlock()
		if err := wait.until(write); err != nil {
			return nil, now, err
		}
	}
}

// A termsWait bounds how long one call waits for the disk until terms are written.
type termsWait struct {
	ctx     context.Context
	timeout time.Duration    // 0: no timeout
	expired <-chan time.Time // nil: it has not waited yet
}

// until waits until a write has ended. Errors are those of the context, and context.DeadlineExceeded after the timeout.
func (w *termsWait) until(written <-chan struct{}) error {
	if w.expired == nil && w.timeout > 0 {
		w.expired = time.After(w.timeout)
	}
	select {
	case <-written:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	case <-w.expired:
		return context.DeadlineExceeded
	}
}

// A pendingTerms sets the terms of an account if they are still the old ones. Nothing is reserved for the
// account meanwhile, see shard.termsWrites.
type pendingTerms struct {
	user   string
	before string
	after  quota.Terms
	// movesRunning: another month or year runs at once. Then something must be counted in no more
	// windows than when the terms were worked out.
	movesRunning bool
	windows      int
	done         chan struct{} // closed when err is final
	err          error         // of the disk
}

func (w *pendingTerms) apply(tx boltfile.Tx, calendar *quota.Calendar, now time.Time) error {
	if string(tx.Bucket(termsBucket).Get([]byte(w.user))) != w.before {
		return nil // another one was faster
	}
	if w.movesRunning && len(windowsWithCounts(tx.Reader(), w.user)) != w.windows {
		return nil // an administrator or a late count was faster
	}
	return putTerms(tx, w.user, w.after, calendar, now)
}

// putTerms sets the terms of an account.
func putTerms(tx boltfile.Tx, user string, t quota.Terms, calendar *quota.Calendar, now time.Time) error {
	terms, key := tx.Bucket(termsBucket), []byte(user)
	text := t.String()
	if text == "" {
		return terms.Delete(key)
	}
	if terms.Get(key) == nil {
		end := t.WindowAt(calendar, quota.Year, now).End
		if err := tx.Bucket(endsBucket).Put(endsKey(termsKind, end.Unix(), key), nil); err != nil {
			return err
		}
	}
	return terms.Put(key, []byte(text))
}

// setAnchor sets or clears the anchor.
func (c *changeTx) setAnchor() error {
	a, _ := c.SetsAnchor(c.calendar.Location())
	activity := quota.Activity{Windows: windowsWithCounts(c.tx.Reader(), c.user), Held: c.held}
	return putTerms(c.tx, c.user, c.terms.SetAnchor(a, c.calendar, c.now, activity), c.calendar, c.now)
}
