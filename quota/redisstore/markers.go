package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/script"
)

// The marker of a settled reservation is there in case a call for it is repeated. If all
// markers stayed for as long as that may happen, they would fill Redis. But nearly every
// reservation is settled and answered at the first try. Then no copy of a call is on its way,
// and the user's next settlement deletes the marker. If none comes, the gateway deletes it a second or
// two later, together with those of other users in one round trip of its own. Only the markers of calls
// without an answer stay, and those of the last few seconds of a gateway that was killed.

const (
	deleteMarkersEvery = time.Second
	// maxMarkers bounds the memory of markers to delete, in fields of one set. Markers
	// beyond it stay in Redis, where they cost memory and nothing else.
	maxMarkers = 1 << 17
	// markerBatch bounds a round trip, in fields.
	markerBatch = 1000
	// maxForgotten bounds what one settlement deletes: Redis does nothing else meanwhile.
	maxForgotten = 8
)

// markers holds the fields to delete, by account, in two sets. The young one waits for
// another turn, since the client of a cluster that fails over may have sent a call twice.
type markers struct {
	mu         sync.Mutex
	young, old map[string][]string
	n          int // fields in young
}

func (m *markers) add(account, field string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n >= maxMarkers {
		return
	}
	if m.young == nil {
		m.young = make(map[string][]string)
	}
	m.young[account] = append(m.young[account], field)
	m.n++
}

// putBack lets fields that could not be deleted wait for another turn.
func (m *markers) putBack(due map[string][]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.young == nil {
		m.young = make(map[string][]string)
	}
	for account, fields := range due {
		if m.n+len(fields) > maxMarkers {
			return
		}
		if len(fields) == 0 {
			continue
		}
		m.young[account] = append(m.young[account], fields...)
		m.n += len(fields)
	}
}

// take returns some fields of an account for its next settlement to delete. It must only be called when no call can
// have been sent twice. A marker of a rest is left: keepRests relies on it for longer.
func (m *markers) take(account string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	fields := takeFrom(m.old, account)
	if len(fields) == 0 {
		fields = takeFrom(m.young, account)
		m.n -= len(fields)
	}
	return fields
}

// takeFrom is take from one set.
func takeFrom(set map[string][]string, account string) []string {
	waiting, n := set[account], 0
	for n < min(len(waiting), maxForgotten) && !script.IsRestMarker(waiting[n]) {
		n++
	}
	if n == len(waiting) {
		delete(set, account)
	} else {
		set[account] = waiting[n:]
	}
	return waiting[:n:n]
}

// takeDue ends a turn: it returns the old set, and the young one becomes old.
func (m *markers) takeDue() map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	due := m.old
	m.old, m.young, m.n = m.young, nil, 0
	return due
}

// Forget implements quota.Store. The markers go with the user's next settlement, or in one of the next turns.
func (s *Store) Forget(r *quota.Reservation) {
	s.markers.add(r.User, script.MarkerField(r.ID))
	if r.RestUnits() > 0 {
		s.rests.remove(r)
		s.markers.add(r.User, script.RestMarkerField(r.ID))
	}
}

// deleteMarkersUntilClosed deletes markers from time to time, and when the store closes all
// that are left.
func (s *Store) deleteMarkersUntilClosed(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.deleteMarkers(s.markers.takeDue())
		case <-s.closing:
			s.deleteMarkers(s.markers.takeDue())
			s.deleteMarkers(s.markers.takeDue())
			return
		}
	}
}

// deleteMarkers deletes what is due, and puts back what it could not delete.
func (s *Store) deleteMarkers(due map[string][]string) {
	for len(due) > 0 {
		batch, n := map[string][]string{}, 0
		for account, fields := range due {
			some := fields[:min(len(fields), markerBatch-n)]
			batch[account] = some
			if n += len(some); len(some) == len(fields) {
				delete(due, account)
			} else {
				due[account] = fields[len(some):]
			}
			if n == markerBatch {
				break
			}
		}
		err := s.client.Do(context.Background(), func(ctx context.Context, r redis.UniversalClient) error {
			_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
				for account, fields := range batch {
					p.HDel(ctx, script.Key(s.prefix, account), fields...)
				}
				return nil
			})
			return err
		})
		if err != nil {
			s.markers.putBack(batch)
			s.markers.putBack(due)
			return
		}
	}
}
