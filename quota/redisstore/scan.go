package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/script"
)

const (
	// scanCount is about how many keys Redis looks at in one call of a scan. Its other
	// clients wait for that long.
	scanCount = 200
	// scanFields is the same for the fields of one user.
	scanFields = 1000
	// scanTries is how often a call of a scan is made if it is not answered.
	scanTries = 3
	scanPause = 200 * time.Millisecond
)

// ScanUsers implements quota.Store. It looks at every key of the Redis, in small steps that leave
// room for other clients, and keeps about 40 bytes for each user found. A user who is new since
// the scan began may be left out, and so may one whose slot moves in a cluster. It fails if
// another master has taken over meanwhile.
func (s *Store) ScanUsers(ctx context.Context, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return s.scan(ctx, "", windows, yield)
}

// ScanMembers implements quota.Store. It is ScanUsers on the master that has the organisation.
func (s *Store) ScanMembers(ctx context.Context, org string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return s.scan(ctx, org, windows, yield)
}

// scanScope returns the masters that have the members of an organisation, or of an empty one all users,
// with the pattern of their keys.
func (s *Store) scanScope(ctx context.Context, org string) (masters []*redis.Client, pattern string, err error) {
	if org == "" {
		masters, err = retry(ctx, func() ([]*redis.Client, error) { return s.masters(ctx) })
		return masters, script.KeyPattern(s.prefix), err
	}
	master, err := doPatiently(ctx, s, func(ctx context.Context, r redis.UniversalClient) (*redis.Client, error) {
		if cluster, ok := r.(*redis.ClusterClient); ok {
			return cluster.MasterForKey(ctx, script.Key(s.prefix, quota.PoolAccount(org)))
		}
		return r.(*redis.Client), nil
	})
	return []*redis.Client{master}, script.MemberPattern(s.prefix, org), err
}

// redisTime returns the time of a Redis.
func (s *Store) redisTime(ctx context.Context, master *redis.Client) (time.Time, error) {
	now, err := doPatiently(ctx, s, func(ctx context.Context, _ redis.UniversalClient) (time.Time, error) {
		return master.Time(ctx).Result()
	})
	return now.Add(s.offset()), err
}

// scan yields the members of an organisation or, of an empty one, all users.
func (s *Store) scan(ctx context.Context, org string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	masters, pattern, err := s.scanScope(ctx, org)
	if err != nil {
		return err
	}
	now, err := s.redisTime(ctx, masters[0])
	if err != nil {
		return err
	}
	w := s.calendar.WindowAt(windows.Period, windows.At)
	if now.Before(w.Start) || !now.Before(w.RetainedUntil(s.keep)) {
		return quota.ErrNotKept
	}
	sc := scan{s, windows, w, now, map[[16]byte]struct{}{}, yield}
	for _, master := range masters {
		err := s.eachKeys(ctx, master, pattern, func(keys []string) error { return sc.yieldUsers(ctx, keys) })
		if err != nil {
			return err
		}
	}
	return nil
}

// masters returns clients of all masters.
func (s *Store) masters(ctx context.Context) ([]*redis.Client, error) {
	var mu sync.Mutex
	var clients []*redis.Client
	err := s.client.EachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		clients = append(clients, master)
		return nil
	})
	if err != nil {
		return nil, err // the call may still be under way, and write to clients
	}
	return clients, nil
}

// A scan looks for the users of a window.
type scan struct {
	store   *Store
	windows quota.WindowQuery
	window  quota.Window // of accounts without windows of their own
	now     time.Time    // by Redis's clock, when the scan began
	// found are the users yielded, by the digest in their keys: Redis may return a key
	// twice.
	found map[[16]byte]struct{}
	yield func(quota.UserUsage) error
}

// A scanPage is what Redis replies to one call of a scan.
type scanPage struct {
	keys   []string
	cursor uint64 // for the next page; 0: this was the last
}

// eachKeys calls visit with the keys of a pattern that one master has, some at a time; with some of them more
// than once.
func (s *Store) eachKeys(ctx context.Context, master *redis.Client, pattern string, visit func(keys []string) error) error {
	// A cursor means nothing to another process.
	process, err := s.processID(ctx, master)
	if err != nil {
		return err
	}
	for cursor, more := uint64(0), true; more; {
		page, err := doPatiently(ctx, s, func(ctx context.Context, _ redis.UniversalClient) (p scanPage, err error) {
			p.keys, p.cursor, err = master.Scan(ctx, cursor, pattern, scanCount).Result()
			return p, err
		})
		if err != nil {
			return fmt.Errorf("looking for users: %w", err)
		}
		if err := visit(page.keys); err != nil {
			return err
		}
		cursor, more = page.cursor, page.cursor != 0
	}
	again, err := s.processID(ctx, master)
	if err == nil && again != process {
		err = errors.New("another Redis took over during the scan, which has missed users: start it again")
	}
	return err
}

// processID returns the run id of the Redis behind a client; empty: it does not say.
func (s *Store) processID(ctx context.Context, master *redis.Client) (string, error) {
	return doPatiently(ctx, s, func(ctx context.Context, _ redis.UniversalClient) (string, error) {
		id := serverInfo(ctx, master, "server")["run_id"]
		return id, ctx.Err()
	})
}

// yieldUsers yields the users of some keys who are not found yet.
func (sc *scan) yieldUsers(ctx context.Context, keys []string) error {
	digests := make(map[string][16]byte, len(keys)) // of the keys to look at
	for _, key := range keys {
		if digest, ok := script.UserDigest(key); ok {
			if _, known := sc.found[digest]; !known {
				digests[key] = digest
			}
		}
	}
	if len(digests) == 0 {
		return nil
	}
	users, err := doPatiently(ctx, sc.store, func(ctx context.Context, r redis.UniversalClient) (map[string][]quota.UserUsage, error) {
		return sc.readUsers(ctx, r, digests)
	})
	if err != nil {
		return fmt.Errorf("reading users: %w", err)
	}
	for key, windows := range users {
		sc.found[digests[key]] = struct{}{}
		for _, u := range windows {
			if err := sc.yield(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// readUsers returns the users of some keys, by key, who have something counted: each window in which
// they have.
func (sc *scan) readUsers(ctx context.Context, r redis.UniversalClient, keys map[string][16]byte) (map[string][]quota.UserUsage, error) {
	heads, firstPages := map[string]*redis.SliceCmd{}, map[string]*redis.ScanCmd{}
	_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		for key := range keys {
			heads[key] = p.HMGet(ctx, key, script.FieldUser, script.FieldPlan, script.FieldClaimed, script.FieldFormat, script.FieldTerms)
			firstPages[key] = p.HScan(ctx, key, 0, fieldPattern(sc.window), scanFields)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	users := map[string][]quota.UserUsage{}
	for key := range keys {
		head := heads[key].Val()
		user, plan, claimed, format := head[0], head[1], head[2], head[3]
		windows := []quota.Window{sc.window}
		if text, _ := head[4].(string); text != "" {
			terms, err := quota.ParseTerms(text)
			if err != nil {
				return nil, err
			}
			windows = sc.windows.WindowsOf(terms, sc.store.calendar)
		}
		if err := script.CheckFormat(format); err != nil {
			return nil, err
		}
		for _, w := range windows {
			u, firstPage := quota.UserUsage{Window: w}, firstPages[key]
			if w.ID != sc.window.ID {
				firstPage = r.HScan(ctx, key, 0, fieldPattern(w), scanFields)
				if err := firstPage.Err(); err != nil {
					return nil, err
				}
			}
			if u.Endpoints, u.Extra, err = readEndpoints(ctx, r, key, w, firstPage); err != nil {
				return nil, err
			}
			for _, n := range u.Endpoints {
				u.Used += n
			}
			if u.Used > 0 {
				override, _ := plan.(string)
				account, _ := user.(string)
				u.Org, u.User = quota.SplitAccount(account)
				u.ClaimedPlan, _ = claimed.(string)
				u.Override = parseOverride(override).ActiveAt(sc.now)
				users[key] = append(users[key], u)
			}
		}
	}
	return users, nil
}

// fieldPattern matches the fields with the counts of a window by endpoint, and some others.
func fieldPattern(w quota.Window) string { return "[ue]*/" + w.ID + "/*" }

// readEndpoints returns the requests that one user has made to each endpoint in a window, and by
// how much their units exceed them. It reads the pages after the first one.
func readEndpoints(ctx context.Context, r redis.UniversalClient, key string, w quota.Window, firstPage *redis.ScanCmd) (used, extra map[string]int64, err error) {
	used = map[string]int64{}
	for fields, cursor := firstPage.Val(); ; {
		for i := 0; i+1 < len(fields); i += 2 { // a field may come twice
			n, err := strconv.ParseInt(fields[i+1], 10, 64)
			if err != nil {
				return nil, nil, err
			}
			if endpoint, ok := strings.CutPrefix(fields[i], script.UsedPrefix(w.ID)); ok {
				used[endpoint] = n
			} else if endpoint, ok := strings.CutPrefix(fields[i], script.ExtraPrefix(w.ID)); ok && n != 0 {
				if extra == nil {
					extra = map[string]int64{}
				}
				extra[endpoint] = n
			}
		}
		if cursor == 0 {
			return used, extra, nil
		}
		if fields, cursor, err = r.HScan(ctx, key, cursor, fieldPattern(w), scanFields).Result(); err != nil {
			return nil, nil, err
		}
	}
}

// doPatiently makes a call that can be repeated, up to scanTries times: a scan that takes
// minutes should not end because one reply was late.
func doPatiently[T any](ctx context.Context, s *Store, fn func(context.Context, redis.UniversalClient) (T, error)) (T, error) {
	return retry(ctx, func() (T, error) {
		var result T
		err := s.client.Do(ctx, func(ctx context.Context, r redis.UniversalClient) (err error) {
			result, err = fn(ctx, r)
			return err
		})
		if err != nil {
			var none T
			return none, err // the call may still be under way, and write to result
		}
		return result, nil
	})
}

// retry makes up to scanTries tries, as long as ctx lasts.
func retry[T any](ctx context.Context, try func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		result, err := try()
		if err == nil || n == scanTries || ctx.Err() != nil {
			return result, err
		}
		select {
		case <-time.After(scanPause):
		case <-ctx.Done():
		}
	}
}
