package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// A retention says what is kept in the file, and for how long.
type retention struct {
	calendar *quota.Calendar
	keep     time.Duration // see Options.Keep
	history  int           // see Options.HistoryDays
	billing  int           // see Options.BillingHours
}

// keepsDay reports whether the numbers of a day are kept at now.
func (k retention) keepsDay(date quota.Date, now time.Time) bool {
	return k.history > 0 && date.IsKept(k.history, k.calendar.DateAt(now))
}

// keepsInFile reports whether the numbers of a day that are in the file stay there at now. While there
// is no history, they stay as long as any history may be kept.
func (k retention) keepsInFile(date quota.Date, now time.Time) bool {
	if k.history == 0 {
		k.history = quota.MaxHistory
	}
	return k.keepsDay(date, now)
}

// appendDayKey appends the part of a key of history that comes before the endpoint.
func appendDayKey(b []byte, user string, date quota.Date) []byte {
	return binary.BigEndian.AppendUint32(append(append(b, user...), 0), uint32(date))
}

// dayEndsKey is the key in ends for a key of history.
func dayEndsKey(date quota.Date, key []byte) []byte {
	return endsKey(dayKind, int64(date)*secondsPerDay, key)
}

const secondsPerDay = 24 * 60 * 60

// countDay counts h on its day, if that is kept at now. It returns how many keys it has created.
func countDay(tx boltfile.Tx, h *hold, now time.Time, k retention) (created int, err error) {
	if !k.keepsDay(h.date, now) {
		return 0, nil
	}
	history, key := tx.Bucket(historyBucket), append(appendDayKey(nil, h.user, h.date), h.endpoint...)
	n := decodeAmounts(history.Get(key))
	if n == (amounts{}) {
		created++
		if err := tx.Bucket(endsBucket).Put(dayEndsKey(h.date, key), nil); err != nil {
			return created, err
		}
	}
	return created, putAmounts(tx, history, key, n.with(h))
}

// resetToday sets what was used today to 0.
func (c *changeTx) resetToday() error {
	if c.history == 0 {
		return nil
	}
	history := c.tx.Bucket(historyBucket)
	for _, key := range keysWithPrefix(history.Bucket, appendDayKey(nil, c.user, c.calendar.DateAt(c.now))) {
		if err := history.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// setToday sets what was used today of the endpoints in Counts, if they are those of a day. A pool has
// no history.
func (c *changeTx) setToday() error {
	if c.history == 0 || c.Period != quota.Day || quota.ScopeOf(c.user) == quota.PoolScope {
		return nil
	}
	history, today := c.tx.Bucket(historyBucket), c.calendar.DateAt(c.now)
	for endpoint, n := range c.Counts {
		key := append(appendDayKey(nil, c.user, today), endpoint...)
		if err := c.putCounts(history, key, amounts{n, c.Extra(endpoint)}, dayEndsKey(today, key)); err != nil {
			return err
		}
	}
	return nil
}

// History returns what an account has used on the last days, see quota.Store. Errors are
// quota.ErrNotKept, ErrClosed and those of ctx and of the disk.
func (s *Store) History(ctx context.Context, account string, days int) (quota.History, error) {
	if err := ctx.Err(); err != nil {
		return quota.History{}, err
	}
	if days < 1 || days > s.history {
		return quota.History{}, quota.ErrNotKept
	}
	sh, now, err := s.lockUser(account)
	if err != nil {
		return quota.History{}, err
	}
	defer sh.mu.Unlock()
	used := make(map[quota.Date]map[string]quota.Used)
	today := s.calendar.DateAt(now)
	err = s.dbView(func(tx boltfile.Reader) error {
		prefix, cursor := append([]byte(account), 0), tx.Bucket(historyBucket).Cursor()
		k, v := cursor.Seek(appendDayKey(nil, account, today-quota.Date(days-1)))
		for ; bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
			date, n := quota.Date(binary.BigEndian.Uint32(k[len(prefix):])), decodeAmounts(v)
			if used[date] == nil {
				used[date] = make(map[string]quota.Used)
			}
			used[date][string(k[len(prefix)+4:])] = quota.Used{Requests: n.requests, Units: n.used(quota.Units)}
		}
		return nil
	})
	if err != nil {
		return quota.History{}, fmt.Errorf("reading the history: %w", err)
	}
	return quota.NewHistory(s.calendar, now.In(s.calendar.Location()), days, used), nil
}
