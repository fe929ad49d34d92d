package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

const (
	// billsAtOnce is how many accounts a scan asks Redis for at once: requests need the other places.
	billsAtOnce = 8
	// endAtOnce is how many bills one call of a script drops. Redis's other clients wait for that long.
	endAtOnce = 1000
)

// ScanBills implements quota.Store. It looks at every key of the Redis like ScanUsers, and also fails if
// another master has taken over meanwhile: what it has made bills of is not lost, and the next scan finds it.
// An account whose data cannot be used keeps no other one waiting; the error about it comes at the end.
func (s *Store) ScanBills(ctx context.Context, q quota.BillQuery, yield func(quota.AccountBills) error) error {
	if s.billing == 0 {
		return quota.ErrNotKept
	}
	masters, err := retry(ctx, func() ([]*redis.Client, error) { return s.masters(ctx) })
	if err != nil {
		return err
	}
	sc := billScan{store: s, query: q, found: map[[16]byte]struct{}{}, yield: yield}
	if q.Progress != nil {
		for _, master := range masters {
			sc.total += countKeys(ctx, master)
		}
		q.Progress(0, sc.total)
	}
	for _, master := range masters {
		err := s.eachKeys(ctx, master, script.KeyPattern(s.prefix), func(keys []string) error { return sc.yieldBills(ctx, keys) })
		if err != nil {
			return err
		}
	}
	if q.Progress != nil {
		q.Progress(sc.done, sc.done)
	}
	return sc.unusable
}

// countKeys returns how many keys a Redis has, about one for each account; 0 if it does not say.
func countKeys(ctx context.Context, master *redis.Client) int64 {
	keyspace := serverInfo(ctx, master, "keyspace")["db"+strconv.Itoa(master.Options().DB)]
	text, _, _ := strings.Cut(strings.TrimPrefix(keyspace, "keys="), ",")
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// A billScan looks for the accounts that have bills.
type billScan struct {
	store       *Store
	query       quota.BillQuery
	found       map[[16]byte]struct{} // the accounts yielded, see scan
	yield       func(quota.AccountBills) error
	done, total int64
	unusable    error // about the first account whose data cannot be used
}

// yieldBills yields the bills of the accounts of some keys that are not found yet.
func (sc *billScan) yieldBills(ctx context.Context, keys []string) error {
	var wanted []string
	var digests [][16]byte
	for _, key := range keys {
		digest, ok := script.UserDigest(key)
		if _, known := sc.found[digest]; ok && !known {
			wanted, digests = append(wanted, key), append(digests, digest)
		}
	}
	accounts, unusable := make([]quota.AccountBills, len(wanted)), make([]error, len(wanted))
	var group errgroup.Group
	group.SetLimit(billsAtOnce)
	for i, key := range wanted {
		group.Go(func() (err error) {
			accounts[i], err = retry(ctx, func() (quota.AccountBills, error) { return sc.store.makeBills(ctx, key, sc.query) })
			if errors.Is(err, quota.ErrUserData) {
				unusable[i], err = err, nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("making bills: %w", err)
	}
	for i, account := range accounts {
		if sc.unusable == nil {
			sc.unusable = unusable[i]
		}
		if _, known := sc.found[digests[i]]; known || unusable[i] != nil || len(account.Bills) == 0 {
			continue
		}
		sc.found[digests[i]] = struct{}{}
		if err := sc.yield(account); err != nil {
			return err
		}
	}
	if sc.done += int64(len(wanted)); sc.query.Progress != nil {
		sc.total = max(sc.total, sc.done)
		sc.query.Progress(sc.done, sc.total)
	}
	return nil
}

// makeBills makes bills of what the account with some key has counted, and returns those that it has.
func (s *Store) makeBills(ctx context.Context, key string, q quota.BillQuery) (quota.AccountBills, error) {
	common := script.CommonArgs{Offset: s.offset(), Assumed: script.AnyOverride}
	var reply script.Reply
	_, err := s.callKeys(ctx, script.Bill, key, "", common, noCounts, noCounts.read, &reply, func(args *resp.Args) {
		own := script.BillArgs{BillQuery: q, BillingHours: s.billing}
		own.AppendTo(args)
	})
	if err != nil {
		return quota.AccountBills{}, err
	}
	found, err := script.ParseBills(reply.Assumed)
	if err != nil {
		return found, fmt.Errorf("%w: the bills of %q cannot be read: %w", quota.ErrUserData, found.Account, err)
	}
	return found, nil
}

// EndBills implements quota.Store.
func (s *Store) EndBills(ctx context.Context, account string, bills []quota.Bill) error {
	if s.billing == 0 {
		return quota.ErrNotKept
	}
	for n := 0; n < len(bills); n += endAtOnce {
		own := script.EndBillsArgs{BillingHours: s.billing, Bills: bills[n:min(n+endAtOnce, len(bills))]}
		_, _, err := s.callAlone(ctx, script.EndBills, account, script.AnyOverride, noCounts, own.AppendTo)
		if err != nil {
			return err
		}
	}
	return nil
}
