package redisstore

import (
	"context"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// rests has the rests of the requests whose responses have not ended on this gateway. They are kept in
// Redis in the background, with the places.
type rests struct {
	mu     sync.Mutex
	byUser map[string]map[string]*keptRest // by ID of the reservation
}

type keptRest struct {
	reservation quota.Reservation
	keptAt      time.Time // by the gateway's clock
}

// add notes a rest that was left at now by the gateway's clock.
func (k *rests) add(r *quota.Reservation, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byUser == nil {
		k.byUser = make(map[string]map[string]*keptRest)
	}
	if k.byUser[r.User] == nil {
		k.byUser[r.User] = make(map[string]*keptRest)
	}
	k.byUser[r.User][r.ID] = &keptRest{*r, now}
}

// remove notes that a rest is settled.
func (k *rests) remove(r *quota.Reservation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byUser[r.User], r.ID)
	if len(k.byUser[r.User]) == 0 {
		delete(k.byUser, r.User)
	}
}

// due returns the IDs of the rests that should be kept at now, or of all, by user. There is time for two
// more tries before a rest would end.
func (k *rests) due(now time.Time, all bool) map[string][]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	due := make(map[string][]string)
	for user, rests := range k.byUser {
		for id, rest := range rests {
			if all || now.Sub(rest.keptAt) >= script.RestLife(rest.reservation.Lease)/3-renewEvery {
				due[user] = append(due[user], id)
			}
		}
	}
	return due
}

// reservations returns those of a user's rests that are not settled meanwhile.
func (k *rests) reservations(user string, ids []string) (rs []*quota.Reservation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		if rest := k.byUser[user][id]; rest != nil {
			rs = append(rs, &rest.reservation)
		}
	}
	return rs
}

// kept notes that rests of a user were kept at now by the gateway's clock.
func (k *rests) kept(user string, rs []*quota.Reservation, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range rs {
		if rest := k.byUser[user][r.ID]; rest != nil {
			rest.keptAt = now
		}
	}
}

// rightData is the context of a call that must not reach other data than those that it belongs to.
type rightData struct {
	context.Context
	store *Store
}

// Err is also what the client asks once it has a connection for the call.
func (c rightData) Err() error { return c.store.DataLost() }

// keepRests keeps rests of one user. One that is settled meanwhile is not taken again: its marker stays
// for longer than the call can be on its way.
func (s *Store) keepRests(user string, ids []string) {
	rs, now := s.rests.reservations(user, ids), s.now()
	if len(rs) == 0 {
		return
	}
	q := query{script: script.Keep, user: user, settles: true}
	withPool := q.poolAccount() != ""
	q.appendArgs = func(args *resp.Args, _ *quota.Plan, _ *layout) {
		own := script.KeepArgs{RetakeUntil: s.Now().Add(min(s.timeout, deleteMarkersEvery)), Rests: rs, WithPool: withPool}
		own.AppendTo(args)
	}
	if s.ask(rightData{context.Background(), s}, &q, new(outcome)) == nil {
		s.rests.kept(user, rs, now)
	}
}
