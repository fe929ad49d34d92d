package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

// Markers of settled reservations would fill Redis if they stayed as long as a
// call might be repeated. Nearly every reservation is settled at the first try and
// answered; then no copy of a call is on its way, and the marker goes a second
// or two later, with those of other users in one round trip of its own. What
// remains are the markers of calls that got no answer, and the last few seconds'
// of a gateway that was killed.

const (
	forgetEvery = time.Second
	// maxForget bounds the memory of what waits: ids a generation. More than that
	// keep their markers in Redis, which costs room there and nothing else.
	maxForget = 1 << 17
	// forgetBatch bounds a round trip, in fields.
	forgetBatch = 1000
)

// forgotten has the fields to delete, by key, in two generations: the young ones
// are left for another turn, since a client of a cluster that is being failed over
// may have sent a call twice.
type forgotten struct {
	mu         sync.Mutex
	young, old map[string][]string
	n          int // fields in young
}

func (f *forgotten) add(key, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n >= maxForget {
		return
	}
	if f.young == nil {
		f.young = make(map[string][]string)
	}
	f.young[key] = append(f.young[key], "done/"+id)
	f.n++
}

// again has fields wait for another turn.
func (f *forgotten) again(due map[string][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.young == nil {
		f.young = make(map[string][]string)
	}
	for key, fields := range due {
		if f.n+len(fields) > maxForget {
			return
		}
		f.young[key] = append(f.young[key], fields...)
		f.n += len(fields)
	}
}

// turn returns what is due.
func (f *forgotten) turn() map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	due := f.old
	f.old, f.young, f.n = f.young, nil, 0
	return due
}

// Forget says that no call for r will come again, because its reserve and its
// settle were sent once each, and answered. The store drops what it keeps to
// recognise a repeated call. It only saves memory, and does not wait.
func (s *Store) Forget(r *quota.Reservation) { s.forgotten.add(s.key(r.User), r.ID) }

// forget deletes markers until the store is closed, and then all that are left.
func (s *Store) forget() {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.deleteMarkers(s.forgotten.turn())
		case <-s.closing:
			s.deleteMarkers(s.forgotten.turn())
			s.deleteMarkers(s.forgotten.turn())
			return
		}
	}
}

// deleteMarkers deletes what is due, and keeps what it could not delete for another
// turn.
func (s *Store) deleteMarkers(due map[string][]string) {
	for len(due) > 0 {
		batch, n := map[string][]string{}, 0
		for key, fields := range due {
			some := fields[:min(len(fields), forgetBatch-n)]
			batch[key] = some
			if n += len(some); len(some) == len(fields) {
				delete(due, key)
			} else {
				due[key] = fields[len(some):]
			}
			if n == forgetBatch {
				break
			}
		}
		err := s.exclusively(context.Background(), func(ctx context.Context) error {
			_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
				for key, fields := range batch {
					p.HDel(ctx, key, fields...)
				}
				return nil
			})
			return err
		})
		if err != nil {
			s.forgotten.again(batch)
			s.forgotten.again(due)
			return
		}
	}
}
