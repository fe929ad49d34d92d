package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

var changeErrors = map[int64]error{
	codeConflict: quota.ErrIDConflict,
	codeIDs:      quota.ErrTooManyIDs,
	codeNoLimit:  quota.ErrNoSuchLimit,
	codeTooMany:  quota.ErrTooLarge,
}

// everyPer are the kinds of windows there are.
var everyPer = []quota.Period{quota.Minute, quota.Hour, quota.Day, quota.Week, quota.Month, quota.Year}

// Change makes a change, in one step together with its entry in the audit list, and
// announces it. The snapshot is the user's state some time after it. Errors:
// quota.ErrInvalidChange, ErrNoSuchLimit, ErrTooLarge, ErrIDConflict and ErrTooManyIDs, when nothing
// has changed; otherwise it may have: a change with an ID can be sent again.
func (s *Store) ApplyChange(ctx context.Context, user string, t quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	if err := c.Validate(user); err != nil {
		return quota.Snapshot{}, err
	}
	q := question{script: changeScript, user: user, silent: true}
	change := func(args *args, windows []quota.Window, done quota.Change) {
		args.number(int64(len(windows)))
		for _, w := range windows {
			args.text(w.ID)
			args.number(w.RetainedUntil(s.keep).UnixMilli())
		}
		args.text(c.ID)
		args.text(c.Fingerprint())
		args.text(string(done.Encode()))
		args.number(s.keep.Milliseconds())
		args.number(quota.MaxAuditEntries)
		args.number(quota.ChangeIDLife.Milliseconds())
		args.number(quota.MaxChangeIDs)
		args.number(quota.MaxRequests)
		args.text(string(c.Action))
	}
	q.own = func(args *args, _ *quota.Plan, windows []quota.Window) { change(args, windows, c) }
	switch c.Action {
	case quota.ActionGrant:
		q.terms = t // which limit it is depends on the plan
		q.kinds = func(p *quota.Plan) []quota.Period {
			if i, ok := c.LimitIndex(p); ok {
				return []quota.Period{p.Limits()[i].Period}
			}
			return nil
		}
		q.own = func(args *args, p *quota.Plan, windows []quota.Window) {
			counter, done := "", c
			if i, ok := c.LimitIndex(p); ok {
				l := p.Limits()[i]
				counter, done.Period = counterName(windows[0], l.Endpoint), l.Period
			}
			change(args, windows, done)
			args.text(counter)
			args.number(c.Requests)
		}
	case quota.ActionReset:
		q.kinds = func(*quota.Plan) []quota.Period { return everyPer }
	case quota.ActionSetPlan:
		q.own = func(args *args, _ *quota.Plan, windows []quota.Window) {
			change(args, windows, c)
			until := int64(0)
			if !c.Until.IsZero() {
				until = c.Until.UnixMilli()
			}
			args.number(until)
			args.text(c.Plan)
		}
	case quota.ActionSetCounts:
		q.kinds = func(*quota.Plan) []quota.Period { return []quota.Period{c.Period} }
		q.own = func(args *args, _ *quota.Plan, windows []quota.Window) {
			change(args, windows, c)
			for _, endpoint := range slices.Sorted(maps.Keys(c.Counts)) {
				args.text(endpoint)
				args.number(c.Counts[endpoint])
			}
		}
	}
	var a answer
	if err := s.ask(ctx, &q, &a); err != nil {
		return quota.Snapshot{}, err
	}
	if err := changeErrors[a.code]; err != nil {
		return quota.Snapshot{}, err
	}
	return s.Read(ctx, user, t)
}

// ReadAt is Read for the windows that an instant lies in. In those that are over
// nothing is held any more. Error: quota.ErrNotKept, when the period has not begun at the
// instant, or its counts are not kept any more.
func (s *Store) ReadAt(ctx context.Context, user string, t quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	var a answer
	if err := s.ask(ctx, &question{script: readScript, user: user, terms: t, at: at}, &a); err != nil {
		return quota.Snapshot{}, err
	}
	var snapshot quota.Snapshot
	a.fill(&snapshot)
	if w := snapshot.Total.Window; a.at.Before(w.Start) || !a.at.Before(w.RetainedUntil(s.keep)) {
		return quota.Snapshot{}, quota.ErrNotKept
	}
	return snapshot, nil
}

// ClaimedPlan returns the name of the plan that the user's token gave him when he was last
// admitted; empty: the store knows none.
func (s *Store) ClaimedPlan(ctx context.Context, user string) (plan string, err error) {
	err = s.exclusively(ctx, func(ctx context.Context) (err error) {
		plan, err = s.client.HGet(ctx, s.key(user), "claimed").Result()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return plan, err
}

// AuditLog returns a user's audit list, the newest entry first.
func (s *Store) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	var text string
	err := s.exclusively(ctx, func(ctx context.Context) (err error) {
		text, err = s.client.HGet(ctx, s.key(user), "audit").Result()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, list, _ := strings.Cut(text, "\n")
	oldest := s.Now().Add(-s.keep)
	var entries []quota.AuditEntry
	for line := range strings.Lines(list) {
		at, change, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the audit list: %w", err)
		}
		e, err := quota.DecodeAuditEntry(time.UnixMilli(ms).In(s.calendar.Location()), []byte(change))
		if err != nil {
			return nil, fmt.Errorf("reading the audit list: %w", err)
		}
		if e.At.After(oldest) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
