package boltstore

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/record"
)

// The models of quotatest compare what is cached with what should be there, after every step of many. Here is what
// they do not do.

// The file is read once for a user who makes requests, and once for a member of an organisation.
func TestCacheServesFurtherRequests(t *testing.T) {
	s, reads := open(t, t.TempDir(), Options{}), 0
	s.dbView = func(fn func(boltfile.Reader) error) error { reads++; return s.db.Latest(fn) }
	pooled := plan(100)
	for i, user := range []string{"u", quota.MemberAccount("org", "a")} {
		for n := range 5 {
			count(t, s, admit(t, s, request(user, pooled)))
			wantUsage(t, s, user, pooled, int64(n+1), 0)
		}
		if reads != i+1 {
			t.Errorf("the file was read %d times for %d users", reads, i+1)
		}
	}
}

// A request that a failed write has counted is counted once, also by those who read in between.
func TestCacheCountsOnceAfterFailedWrite(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{}), plan(10)
	r := admit(t, s, request("u", p))
	broken := errors.New("broken")
	s.dbUpdate = func(fn func(boltfile.Tx) error) error { return errors.Join(s.db.Append(fn), broken) }
	if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
		t.Fatalf("Commit: %v, want %v", err, broken)
	}
	admit(t, s, request("u", p))
	wantUsage(t, s, "u", p, 1, 1)
	s.dbUpdate = s.db.Append
	count(t, s, r)
	wantUsage(t, s, "u", p, 1, 1)
}

// A change and a count that share a write leave the same in the cache as in the file, in either order.
func TestCacheFollowsChangeInSameWrite(t *testing.T) {
	for first, want := range map[string]int64{"change": 1, "count": 0} {
		t.Run(first+" first", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testChangeInSameWrite(t, first, want) })
		})
	}
}

func testChangeInSameWrite(t *testing.T, first string, want int64) {
	s, p := open(t, t.TempDir(), Options{}), plan(10)
	count(t, s, admit(t, s, request("u", p)))
	r, other := admit(t, s, request("u", p)), admit(t, s, request("other", p))
	writing, disk := slowDisk(s)
	done := make(chan error, 3)
	go func() { _, err := s.Commit(ctx, &other); done <- err }()
	<-writing
	calls := map[string]func() error{
		"change": func() error {
			_, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), quota.Change{Action: quota.ActionReset})
			return err
		},
		"count": func() error { _, err := s.Commit(ctx, &r); return err },
	}
	go func() { done <- calls[first]() }()
	synctest.Wait()
	delete(calls, first)
	for _, call := range calls {
		go func() { done <- call() }()
	}
	synctest.Wait()
	disk <- nil
	<-writing
	disk <- nil
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	wantUsage(t, s, "u", p, want, 0)
	dropCache(s)
	wantUsage(t, s, "u", p, want, 0)
}

// What is moved into the store, and deleted, is not hidden by what was cached.
func TestCacheEndsWithImport(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{}), plan(10)
	count(t, s, admit(t, s, request("u", p)))
	count(t, s, admit(t, s, request("from", p)))
	count(t, s, admit(t, s, request("from", p)))
	from, err := s.ReadAccounts(ctx, []string{"from"})
	if err != nil {
		t.Fatal(err)
	}
	moved := from["from"]
	moved.Name = "u"
	if err := s.PutAccounts(ctx, []record.Account{moved}); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, s, "u", p, 2, 0)
	count(t, s, admit(t, s, request("u", p)))
	wantUsage(t, s, "u", p, 3, 0)
	if err := s.DeleteAccounts(ctx, []string{"u"}); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, s, "u", p, 0, 0)
}

// However many users make requests, the cache of a shard does not grow, and counts what it has.
func TestCacheIsBounded(t *testing.T) {
	var c cache
	for i := range 3 * maxCached {
		c.put(fmt.Sprint("user-", i%(2*maxCached)), &cachedAccount{counters: make([]cachedCounter, 1+i%5)})
		if i%7 == 0 {
			c.remove(fmt.Sprint("user-", i/2%(2*maxCached)))
		}
		counters := 0
		for _, a := range c.accounts {
			counters += len(a.counters)
		}
		if counters != c.counters || counters > maxCached {
			t.Fatalf("the cache has %d counters, it says %d, want at most %d", counters, c.counters, maxCached)
		}
	}
}
