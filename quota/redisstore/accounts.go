package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/record"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

var _ record.Store = (*Store)(nil)

// ErrHeld: a gateway is holding something for an account, so it is running, or was killed a short while ago.
var ErrHeld = errors.New("requests are held in this Redis: a gateway runs on it, or was killed less than an upstream's timeout ago")

// ScanAccounts implements record.Store. It looks at every key of the Redis, as ScanUsers does.
func (s *Store) ScanAccounts(ctx context.Context, yield func([]record.Account) error) error {
	masters, err := retry(ctx, func() ([]*redis.Client, error) { return s.masters(ctx) })
	if err != nil {
		return err
	}
	if err := s.readClock(ctx, masters[0]); err != nil {
		return err
	}
	for _, master := range masters {
		err := s.eachKeys(ctx, master, script.KeyPattern(s.prefix), func(keys []string) error {
			var some []string
			for _, key := range keys {
				if script.IsAccountKey(key) {
					some = append(some, key)
				}
			}
			accounts, err := s.readHashes(ctx, some)
			if err != nil || len(accounts) == 0 {
				return err
			}
			return yield(accounts)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readClock learns Redis's time, which Now returns.
func (s *Store) readClock(ctx context.Context, master *redis.Client) error {
	now, err := doPatiently(ctx, s, func(ctx context.Context, _ redis.UniversalClient) (time.Time, error) {
		return master.Time(ctx).Result()
	})
	if err == nil {
		s.redisAhead.Store(int64(now.Add(s.offset()).Sub(s.now())))
	}
	return err
}

// readHashes returns the accounts under some keys.
func (s *Store) readHashes(ctx context.Context, keys []string) (accounts []record.Account, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	hashes, err := doPatiently(ctx, s, func(ctx context.Context, r redis.UniversalClient) ([]map[string]string, error) {
		replies := make([]*redis.MapStringStringCmd, len(keys))
		_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range keys {
				replies[i] = p.HGetAll(ctx, key)
			}
			return nil
		})
		hashes := make([]map[string]string, len(keys))
		for i, reply := range replies {
			hashes[i] = reply.Val()
		}
		return hashes, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading accounts: %w", s.explain(err))
	}
	for i, fields := range hashes {
		a, isHeld, ok, err := script.ParseAccount(fields, s.Now())
		switch {
		case err != nil:
			return nil, fmt.Errorf("the key %s: %w", keys[i], err)
		case isHeld && s.refusesHeld:
			return nil, fmt.Errorf("%w (account %q)", ErrHeld, a.Name)
		case ok && script.Key(s.prefix, a.Name) != keys[i]:
			return nil, fmt.Errorf("the key %s: %w: it has the data of %q, which belong under %s", keys[i], quota.ErrUserData, a.Name, script.Key(s.prefix, a.Name))
		case ok:
			accounts = append(accounts, a)
		}
	}
	return accounts, nil
}

// ReadAccounts implements record.Store.
func (s *Store) ReadAccounts(ctx context.Context, names []string) (map[string]record.Account, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = script.Key(s.prefix, name)
	}
	accounts, err := s.readHashes(ctx, keys)
	found := make(map[string]record.Account, len(accounts))
	for _, a := range accounts {
		found[a.Name] = a
	}
	return found, err
}

// PutAccounts implements record.Store. It sends all of them in one round trip.
func (s *Store) PutAccounts(ctx context.Context, accounts []record.Account) error {
	type put struct {
		key  string
		args []any
	}
	var puts []put
	var gone []string
	crossing := map[string]time.Time{}
	for _, a := range accounts {
		fields, ends, none, err := script.FormatAccount(a, record.View{Calendar: s.calendar, Keep: s.keep}, s.Now())
		switch {
		case err != nil:
			return err
		case none:
			gone = append(gone, a.Name)
			continue
		}
		until := int64(0)
		if !ends.IsZero() {
			until = ends.Add(-s.offset()).UnixMilli()
		}
		key := script.Key(s.prefix, a.Name)
		puts = append(puts, put{key, append([]any{until, script.ChangesChannel(key)}, fields...)})
		if len(a.Crossings) > 0 {
			crossing[a.Name] = a.Crossings[0].At
		}
	}
	_, err := doPatiently(ctx, s, func(ctx context.Context, r redis.UniversalClient) (struct{}, error) {
		_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, put := range puts {
				script.Put.Eval(ctx, p, []string{put.key}, put.args...)
			}
			return nil
		})
		return struct{}{}, err
	})
	if err == nil && len(crossing) > 0 {
		_, err = s.callClaims(ctx, func(args *resp.Args) { script.AppendList(args, s.offset(), crossing) })
	}
	if err != nil {
		return fmt.Errorf("writing accounts: %w", s.explain(err))
	}
	return s.DeleteAccounts(ctx, gone)
}

// DeleteAccounts implements record.Store.
func (s *Store) DeleteAccounts(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	_, err := doPatiently(ctx, s, func(ctx context.Context, r redis.UniversalClient) (struct{}, error) {
		_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, name := range names {
				key := script.Key(s.prefix, name)
				script.Put.Eval(ctx, p, []string{key}, 0, script.ChangesChannel(key))
			}
			return nil
		})
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("deleting accounts: %w", s.explain(err))
	}
	return nil
}

// RefuseHeld has the methods of record.Store return ErrHeld for an account for which something is held. It must be
// called before any of them.
func (s *Store) RefuseHeld() { s.refusesHeld = true }

// beatRecent is for how long a beat says that a gateway may still run.
const beatRecent = 5 * checkDataEvery

// IsUsed reports whether a gateway of this prefix uses the Redis: whether the beats that gateways count up go on. It takes
// some seconds if the last one was a short while ago, and none otherwise.
func (s *Store) IsUsed(ctx context.Context) (bool, error) {
	masters, err := retry(ctx, func() ([]*redis.Client, error) { return s.masters(ctx) })
	if err == nil {
		err = s.readClock(ctx, masters[0])
	}
	if err != nil {
		return false, s.explain(err)
	}
	var first []uint16
	for range 10 { // go-redis may ask a node of the URL that is down
		if first, err = retry(ctx, func() ([]uint16, error) { return s.client.FirstSlots(ctx) }); err == nil {
			break
		}
	}
	if err != nil {
		return false, s.explain(err)
	}
	read := func() (map[uint16]mark, error) {
		return s.doForMarks(func(ctx context.Context, r redis.UniversalClient) (map[uint16]mark, error) {
			return s.readMarks(ctx, r, first)
		})
	}
	before, err := read()
	if err != nil {
		return false, s.explain(err)
	}
	isRecent := false
	for _, m := range before {
		isRecent = isRecent || m.Beat > 0 && s.Now().Sub(m.BeatAt) < beatRecent
	}
	if !isRecent {
		return false, nil
	}
	select {
	case <-time.After(2*checkDataEvery + time.Second):
	case <-ctx.Done():
		return false, ctx.Err()
	}
	after, err := read()
	for slot, m := range after {
		if m.Beat > before[slot].Beat {
			return true, nil
		}
	}
	return false, err
}
