package guard

import (
	"time"

	"metergate/quota"
)

// maxHistoryNumbers bounds how many numbers of days and endpoints each of the two maps of a
// historyCache has: 64 shards of them take some 20 MiB at most, whatever the days and endpoints.
const maxHistoryNumbers = 2048

// A knownHistory is what the store last reported of an account's days, and what this gateway has
// counted in the store since.
type knownHistory struct {
	at             time.Time  // of the last report
	oldest, newest quota.Date // all days between them were reported
	used           map[dayKey]quota.Used
	size           int // of used, when it was put into the cache
}

type dayKey struct {
	date     quota.Date
	endpoint string
}

// A historyCache has the last known histories of accounts that were asked for. It is bounded like a
// lastKnownCache, by numbers. The zero value is empty and ready.
type historyCache struct {
	young, old map[string]*knownHistory
	numbers    int // in young
}

// get returns what is known of an account's days, nil if nothing is.
func (c *historyCache) get(account string) *knownHistory {
	if k := c.young[account]; k != nil {
		return k
	}
	k := c.old[account]
	if k != nil {
		delete(c.old, account)
		c.put(account, k)
	}
	return k
}

// put sets what is known of an account's days.
func (c *historyCache) put(account string, k *knownHistory) {
	if before := c.young[account]; before != nil {
		c.numbers -= before.size
		delete(c.young, account)
	}
	k.size = len(k.used) + 1
	if c.young == nil || c.numbers+k.size > maxHistoryNumbers {
		c.old, c.young, c.numbers = c.young, make(map[string]*knownHistory), 0
	}
	c.young[account] = k
	c.numbers += k.size
}

// forget drops what is known of an account's days.
func (c *historyCache) forget(account string) {
	if k := c.young[account]; k != nil {
		c.numbers -= k.size
		delete(c.young, account)
	}
	delete(c.old, account)
}

// record records what the store reported. What is known of earlier days stays, as they hardly change,
// if all days since were reported after they had ended.
func (c *historyCache) record(account string, h *quota.History) {
	before := c.get(account)
	if before != nil && before.at.After(h.At) { // answers can overtake one another
		return
	}
	first, last := h.Days[0].Date, h.Days[len(h.Days)-1].Date
	k := &knownHistory{at: h.At, oldest: first, newest: last, used: make(map[dayKey]quota.Used)}
	for _, d := range h.Days {
		for endpoint, u := range d.Endpoints {
			k.used[dayKey{d.Date, endpoint}] = u
		}
	}
	if before != nil && before.oldest < first && first <= before.newest {
		k.oldest = before.oldest
		for key, u := range before.used {
			if key.date < first && key.date > last-quota.MaxHistory {
				k.used[key] = u
			}
		}
	}
	c.put(account, k)
}

// add records that the store has counted w at a time, if the account's days are known and that is not
// among what the store has reported. The zero time is later than all reports.
func (c *historyCache) add(w *settlement, at time.Time) {
	if w.Date == 0 || len(c.young)+len(c.old) == 0 {
		return
	}
	k := c.get(w.User)
	if k == nil || !at.IsZero() && !at.After(k.at) {
		return
	}
	key := dayKey{w.Date, w.Endpoint}
	k.used[key] = k.used[key].Add(w.counted().asUsed())
}

// recordHistory records what the store reported of an account's days.
func (l *ledger) recordHistory(account string, h *quota.History) {
	sh := l.lockShard(account)
	defer sh.mu.Unlock()
	sh.histories.record(account, h)
}

// forgetHistory drops what is known of an account's days: an administrator may have changed today's.
func (l *ledger) forgetHistory(account string) {
	sh := l.lockShard(account)
	defer sh.mu.Unlock()
	sh.histories.forget(account)
}

// history is what an account has used on the last days, as far as is known without the store: what it
// last reported, and what this gateway has counted since. It returns false if the store has not
// reported all of these days, today included: zeros would be wrong, as other gateways may have counted.
func (l *ledger) history(account string, days int, now time.Time) (h quota.History, ok bool) {
	sh := l.lockShard(account)
	defer sh.mu.Unlock()
	k, today := sh.histories.get(account), l.calendar.DateAt(now)
	if k == nil || k.newest < today || k.oldest > today-quota.Date(days-1) {
		return h, false
	}
	used := make(map[quota.Date]map[string]quota.Used)
	add := func(date quota.Date, endpoint string, u quota.Used) {
		if used[date] == nil {
			used[date] = make(map[string]quota.Used)
		}
		used[date][endpoint] = used[date][endpoint].Add(u)
	}
	for key, u := range k.used {
		add(key.date, key.endpoint, u)
	}
	if u := sh.local[account]; u != nil {
		for key, n := range u.unsent {
			if key.date != 0 {
				add(key.date, key.endpoint, n.asUsed())
			}
		}
	}
	h = quota.NewHistory(l.calendar, now.In(l.calendar.Location()), days, used)
	h.Stale = true
	return h, true
}
