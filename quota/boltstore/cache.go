package boltstore

import (
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// maxCached bounds the counters in the cache of a shard. All shards together need about 17 MiB for them if the ids of
// users have 36 bytes, and 21 MiB with ids of 200 bytes.
const maxCached = 512

// A cache has what the file has of those accounts of a shard for which requests were reserved last. Most
// reads find everything there. The shard must be locked.
//
// A count gets there later than into the file, namely when the writer settles the hold that it has counted.
// The writer locks the shard for that. So the cache never has the unit of a hold that still exists. Other changes of
// the file end what is cached:
//
//	a change          what is cached of the account, before a hold of the same write is settled
//	any other write   everything, likewise
//	a failed write    everything, since readers may see it nevertheless
//
// Terms are not cached: plans that need them are read from the file.
type cache struct {
	accounts   map[string]*cachedAccount
	counters   int       // of all accounts
	generation int64     // Store.cacheGeneration, when the first account was read
	now        time.Time // when the cache was last read, by the clock on the wall
}

// A cachedAccount has the counters that the last reader of the file needed.
type cachedAccount struct {
	override quota.Override // it may have ended
	counters []cachedCounter
	next     int // in counters; readers ask for them in the same order
}

// A cachedCounter is a key of used and grants, and its values.
type cachedCounter struct {
	window, endpoint string
	used, granted    amounts
}

// renew empties the cache if it is of another generation, or if the clock was set back: windows that the file keeps
// no longer may run again.
func (c *cache) renew(generation int64, now time.Time) {
	now = now.Round(0) // without the monotonic clock, which nobody sets back
	if c.generation != generation || now.Before(c.now) {
		*c = cache{generation: generation}
	}
	c.now = now
}

// override returns the cached override of an account, see numbers.
func (c *cache) override(account string) (o quota.Override, ok bool) {
	a := c.accounts[account]
	if a == nil {
		return o, false
	}
	return a.override, true
}

// counter returns cached numbers, see numbers.
func (c *cache) counter(account, window, endpoint string) (used, granted amounts, ok bool) {
	a := c.accounts[account]
	if a == nil {
		return used, granted, false
	}
	for range a.counters {
		if a.next >= len(a.counters) {
			a.next = 0
		}
		n := &a.counters[a.next]
		a.next++
		if n.window == window && n.endpoint == endpoint {
			return n.used, n.granted, true
		}
	}
	return used, granted, false
}

// put sets what is cached of an account.
func (c *cache) put(account string, a *cachedAccount) {
	c.remove(account)
	if c.counters+len(a.counters) > maxCached {
		c.accounts, c.counters = nil, 0 // those that are in use are soon back
	}
	if c.accounts == nil {
		c.accounts = make(map[string]*cachedAccount)
	}
	c.accounts[account] = a
	c.counters += len(a.counters)
}

// remove ends what is cached of an account.
func (c *cache) remove(account string) {
	if a := c.accounts[account]; a != nil {
		c.counters -= len(a.counters)
		delete(c.accounts, account)
	}
}

// count counts a hold that the file has counted.
func (c *cache) count(h *hold) {
	c.countIn(h, h.user, h.windows)
	if h.pool != "" {
		c.countIn(h, h.pool, h.poolWindows)
	}
}

// countIn is count for one account.
func (c *cache) countIn(h *hold, account string, windows []quota.Window) {
	a := c.accounts[account]
	if a == nil {
		return
	}
	for i := range a.counters {
		n := &a.counters[i]
		if n.endpoint != "" && n.endpoint != h.endpoint {
			continue
		}
		for j := range windows {
			if windows[j].ID == n.window {
				n.used = n.used.with(h)
				break
			}
		}
	}
}

// numbers is where a reader finds what the file has: there, or in the cache. ok is false if it is not there.
type numbers interface {
	// override returns the override of an account's plan, which may have ended.
	override(account string) (o quota.Override, ok bool)
	// counter returns what was used and granted.
	counter(account, window, endpoint string) (used, granted amounts, ok bool)
}

// fileNumbers are those of a transaction.
type fileNumbers struct {
	used boltfile.ReadBucket
	// grants and plans count only if the file has, or has had, any.
	grants, plans       boltfile.ReadBucket
	hasGrants, hasPlans bool
	key                 []byte
	// read has what was read, by account; nil: that is not kept.
	read map[string]*cachedAccount
}

func (s *Store) fileNumbers(tx boltfile.Reader) fileNumbers {
	f := fileNumbers{used: tx.Bucket(usedBucket), hasGrants: s.hasGrants.Load(), hasPlans: s.hasOverrides.Load(), key: make([]byte, 0, 128)}
	if f.hasGrants {
		f.grants = tx.Bucket(grantsBucket)
	}
	if f.hasPlans {
		f.plans = tx.Bucket(plansBucket)
	}
	return f
}

func (f *fileNumbers) override(account string) (o quota.Override, ok bool) {
	if f.hasPlans {
		o = readOverride(f.plans, []byte(account))
	}
	if f.read != nil {
		f.read[account] = &cachedAccount{override: o}
	}
	return o, true
}

func (f *fileNumbers) counter(account, window, endpoint string) (used, granted amounts, ok bool) {
	f.key = appendKey(f.key[:0], account, window, endpoint)
	used = decodeAmounts(f.used.Get(f.key))
	if f.hasGrants {
		granted = decodeAmounts(f.grants.Get(f.key))
	}
	if a := f.read[account]; a != nil {
		a.counters = append(a.counters, cachedCounter{window, endpoint, used, granted})
	}
	return used, granted, true
}

// keep caches what was read of the file, as of a write, if it is what the cache may have.
func (c *cache) keep(f *fileNumbers, sh *shard, write int64) {
	for account := range f.read {
		for _, h := range sh.holds[account] {
			if n := h.writeNumber.Load(); n != 0 && n <= write {
				return // it is among the counts, and would be counted when it is settled as well
			}
		}
	}
	for account, a := range f.read {
		c.put(account, a)
	}
}
