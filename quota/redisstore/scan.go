package redisstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

const (
	// scanCount is about how many keys Redis looks at in one call of a scan: what else
	// it has to do waits for so long.
	scanCount = 200
	// scanFields is the same for the fields of a user.
	scanFields = 1000
	// scanTries is how often a call of a scan is made that is not answered.
	scanTries = 3
	scanPause = 200 * time.Millisecond
)

// ScanUsers calls yield with each user who has something counted in the window of kind per
// that an instant lies in, in no order, and each one once. It looks at every key of the
// Redis, in small steps that leave room for others; of the users found it keeps some 40
// bytes each. It is no snapshot: of a running window, each user's numbers are those of
// when he is reached, and one who is new meanwhile may be left out; so may one whose
// slot a cluster moves meanwhile. An error of yield ends it and is returned. Other
// errors: quota.ErrNotKept; Redis's, also when another master has taken over.
func (s *Store) ScanUsers(ctx context.Context, per quota.Period, at time.Time, yield func(quota.UserUsage) error) error {
	masters, err := patiently(ctx, s, s.masters)
	if err != nil {
		return err
	}
	now, err := patiently(ctx, s, func(ctx context.Context) (time.Time, error) { return masters[0].Time(ctx).Result() })
	if err != nil {
		return err
	}
	now = now.Add(s.offset())
	w := s.calendar.WindowAt(per, at)
	if now.Before(w.Start) || !now.Before(w.RetainedUntil(s.keep)) {
		return quota.ErrNotKept
	}
	sc := scan{s, w, now, map[[16]byte]struct{}{}, yield}
	for _, master := range masters {
		if err := sc.master(ctx, master); err != nil {
			return err
		}
	}
	return nil
}

// masters returns clients of all masters.
func (s *Store) masters(ctx context.Context) (clients []*redis.Client, err error) {
	var mu sync.Mutex
	err = s.eachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		clients = append(clients, c)
		return nil
	})
	return clients, err
}

// A scan looks for the users of a window.
type scan struct {
	s      *Store
	window quota.Window
	now    time.Time // by Redis's clock, when it began
	// found are the users yielded, by the hash in their keys: Redis may return a key
	// twice.
	found map[[16]byte]struct{}
	yield func(quota.UserUsage) error
}

// page is what Redis answers to a call of a scan.
type page struct {
	keys []string
	next uint64 // the cursor; 0: it was the last
}

// master yields the users that one master has.
func (sc *scan) master(ctx context.Context, c *redis.Client) error {
	// A cursor means nothing to another process.
	process, err := sc.process(ctx, c)
	if err != nil {
		return err
	}
	pattern := globQuoted(sc.s.prefix) + ":{" + strings.Repeat("?", base64.RawURLEncoding.EncodedLen(16)) + "}"
	for cursor, more := uint64(0), true; more; {
		p, err := patiently(ctx, sc.s, func(ctx context.Context) (p page, err error) {
			p.keys, p.next, err = c.Scan(ctx, cursor, pattern, scanCount).Result()
			return p, err
		})
		if err != nil {
			return fmt.Errorf("looking for users: %w", err)
		}
		if err := sc.users(ctx, p.keys); err != nil {
			return err
		}
		cursor, more = p.next, p.next != 0
	}
	again, err := sc.process(ctx, c)
	if err == nil && again != process {
		err = errors.New("another Redis took over during the scan, which has missed users: start it again")
	}
	return err
}

// process is the run id of the Redis behind a client; empty: it does not say.
func (sc *scan) process(ctx context.Context, c *redis.Client) (string, error) {
	return patiently(ctx, sc.s, func(ctx context.Context) (string, error) {
		id := infoOf(ctx, c)["run_id"]
		return id, ctx.Err()
	})
}

// users yields the users of some keys who are not found yet.
func (sc *scan) users(ctx context.Context, keys []string) error {
	hashes := make(map[string][16]byte, len(keys)) // of the keys to look at
	for _, key := range keys {
		if hash, ok := hashOf(key); ok {
			if _, known := sc.found[hash]; !known {
				hashes[key] = hash
			}
		}
	}
	if len(hashes) == 0 {
		return nil
	}
	users, err := patiently(ctx, sc.s, func(ctx context.Context) (map[string]quota.UserUsage, error) {
		return sc.read(ctx, hashes)
	})
	if err != nil {
		return fmt.Errorf("reading users: %w", err)
	}
	for key, u := range users {
		sc.found[hashes[key]] = struct{}{}
		if err := sc.yield(u); err != nil {
			return err
		}
	}
	return nil
}

// read returns the users of some keys, by key, who have something counted.
func (sc *scan) read(ctx context.Context, keys map[string][16]byte) (map[string]quota.UserUsage, error) {
	prefix := "used/" + sc.window.ID + "/"
	heads, used := map[string]*redis.SliceCmd{}, map[string]*redis.ScanCmd{}
	_, err := sc.s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for key := range keys {
			heads[key] = p.HMGet(ctx, key, "user", "plan", "claimed")
			used[key] = p.HScan(ctx, key, 0, prefix+"*", scanFields)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	users := map[string]quota.UserUsage{}
	for key := range keys {
		u := quota.UserUsage{Endpoints: map[string]int64{}}
		for fields, cursor := used[key].Val(); ; {
			for i := 0; i+1 < len(fields); i += 2 { // a field may come twice
				if u.Endpoints[strings.TrimPrefix(fields[i], prefix)], err = strconv.ParseInt(fields[i+1], 10, 64); err != nil {
					return nil, err
				}
			}
			if cursor == 0 {
				break
			}
			if fields, cursor, err = sc.s.client.HScan(ctx, key, cursor, prefix+"*", scanFields).Result(); err != nil {
				return nil, err
			}
		}
		for _, n := range u.Endpoints {
			u.Used += n
		}
		if head := heads[key].Val(); u.Used > 0 && len(head) == 3 {
			plan, _ := head[1].(string)
			u.User, _ = head[0].(string)
			u.ClaimedPlan, _ = head[2].(string)
			u.Override = parseOverride(plan).ActiveAt(sc.now)
			users[key] = u
		}
	}
	return users, nil
}

// patiently has a worker make a call that can be repeated, some times if need be: a scan
// of minutes should not end because one answer was late.
func patiently[T any](ctx context.Context, s *Store, call func(context.Context) (T, error)) (T, error) {
	for try := 1; ; try++ {
		// Each try has its own result: an earlier one may still be under way.
		var result T
		err := s.exclusively(ctx, func(ctx context.Context) (err error) {
			result, err = call(ctx)
			return err
		})
		if err == nil {
			return result, nil
		}
		if try == scanTries || ctx.Err() != nil {
			var none T
			return none, err
		}
		select {
		case <-time.After(scanPause):
		case <-ctx.Done():
		}
	}
}

// hashOf is what a key has of its user's id, see key.
func hashOf(key string) (hash [16]byte, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(key[strings.LastIndexByte(key, '{')+1:], "}"))
	return hash, err == nil && copy(hash[:], b) == len(hash)
}

// globQuoted has Redis's patterns match text itself.
func globQuoted(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
