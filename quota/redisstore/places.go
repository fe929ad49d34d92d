package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/internal/queue"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

const (
	// renewEvery leaves time for two more tries before a place would end.
	renewEvery = quota.PlaceLease / 3
	// placeCalls is how many users' places are given back, or renewed, at a time.
	placeCalls = 8
	// leaveTries is how often a place is given back until Redis answers. It then ends by itself.
	leaveTries = 3
)

// places has the places of the requests that run on this gateway. It renews them, and gives them
// back, in the background.
type places struct {
	mu      sync.Mutex
	byUser  map[string]map[string]struct{} // the IDs of reservations
	leaving queue.Queue[leavingPlace]
	// departures has, by user, the places in leaving of which Redis may not know yet.
	departures map[string]*departure
	// missing, of capacity 1, says that Redis may lack places.
	missing chan struct{}
}

// A departure is a number of places that a user gives back.
type departure struct {
	places int
	done   chan struct{} // closed when Redis knows of all of them, or does not answer
}

type leavingPlace struct {
	user, id string
	ended    time.Time // when the response ended, by the gateway's clock
}

// add notes the place of a request that was admitted.
func (p *places) add(user, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byUser == nil {
		p.byUser = make(map[string]map[string]struct{})
	}
	if p.byUser[user] == nil {
		p.byUser[user] = make(map[string]struct{})
	}
	p.byUser[user][id] = struct{}{}
}

// leave has a place given back, at now by the gateway's clock.
func (p *places) leave(user, id string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byUser[user], id)
	if len(p.byUser[user]) == 0 {
		delete(p.byUser, user)
	}
	if p.leaving.Add(leavingPlace{user, id, now}) {
		if p.departures == nil {
			p.departures = make(map[string]*departure)
		}
		if p.departures[user] == nil {
			p.departures[user] = &departure{done: make(chan struct{})}
		}
		p.departures[user].places++
	}
}

// left says that places which a user gave back need no longer be waited for.
func (p *places) left(user string, places int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.departures[user]
	if d.places -= places; d.places == 0 {
		close(d.done)
		delete(p.departures, user)
	}
}

// departing returns what is closed when Redis knows of all places that a user has given back; nil: it
// does already.
func (p *places) departing(user string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.departures[user]; d != nil {
		return d.done
	}
	return nil
}

// snapshot returns the IDs of all places, by user.
func (p *places) snapshot() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string][]string, len(p.byUser))
	for user, ids := range p.byUser {
		for id := range ids {
			all[user] = append(all[user], id)
		}
	}
	return all
}

// ended returns those of a user's IDs whose requests have no place any more.
func (p *places) ended(user string, ids []string) (ended []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if _, ok := p.byUser[user][id]; !ok {
			ended = append(ended, id)
		}
	}
	return ended
}

// renewSoon has all places renewed as soon as possible.
func (p *places) renewSoon() {
	select {
	case p.missing <- struct{}{}:
	default: // that is to happen already
	}
}

// Occupy takes a place for a request that was admitted without an answer of Redis. Redis gets to
// know with the next renewal, which is made when it has been connected to.
func (s *Store) Occupy(r *quota.Reservation) { s.places.add(r.User, r.ID) }

// Leave implements quota.Store. Redis gets to know soon afterwards.
func (s *Store) Leave(r *quota.Reservation) {
	s.places.leave(r.User, r.ID, s.now())
}

// giveBackPlaces gives places back until the queue is closed.
func (s *Store) giveBackPlaces() {
	for {
		batch := s.places.leaving.TakeAll()
		if len(batch) == 0 {
			return
		}
		byUser := map[string][]string{}
		for _, l := range batch {
			if s.now().Sub(l.ended) < quota.PlaceLease { // else Redis has ended it
				byUser[l.user] = append(byUser[l.user], l.id)
			} else {
				s.places.left(l.user, 1)
			}
		}
		s.eachUser(byUser, func(user string, ids []string) {
			defer s.places.left(user, len(ids))
			for range leaveTries {
				if s.callPlaces(script.Leave, user, ids) == nil {
					// Watchers here get to know even if Redis does not let the gateway subscribe.
					s.watchers.hub.Notify(script.ChangesChannel(script.Key(s.prefix, user)))
					return
				}
			}
		})
	}
}

// awaitDeparture waits until departing, if it is not nil, is closed, but no longer than for an answer
// of Redis, and reports whether it was.
func (s *Store) awaitDeparture(ctx context.Context, departing <-chan struct{}) bool {
	if departing == nil {
		return false
	}
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	select {
	case <-departing:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// renewPlacesUntilClosed renews the places and keeps the rests of requests that run for long, and after
// each connect: in an outage, some may have ended in Redis, and others were taken without it. A renewal
// that fails is made again in its next turn.
func (s *Store) renewPlacesUntilClosed() {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		all := false
		select {
		case <-tick.C:
		case <-s.places.missing:
			all = true
		case <-s.closing:
			return
		}
		s.eachUser(s.places.snapshot(), s.renewPlaces)
		s.eachUser(s.rests.due(s.now(), all), s.keepRests)
	}
}

// renewPlaces renews places of one user.
func (s *Store) renewPlaces(user string, ids []string) {
	_ = s.callPlaces(script.Renew, user, ids)
	// If a request has ended meanwhile, the renewal may have taken its place again.
	for _, id := range s.places.ended(user, ids) {
		s.places.leave(user, id, s.now())
	}
}

// eachUser calls fn for each user, several at a time, in parts that a script can take.
func (s *Store) eachUser(byUser map[string][]string, fn func(user string, ids []string)) {
	const part = 1000
	var calls sync.WaitGroup
	free := make(chan struct{}, placeCalls)
	for user, ids := range byUser {
		for len(ids) > 0 {
			some := ids[:min(part, len(ids))]
			ids = ids[len(some):]
			free <- struct{}{}
			calls.Go(func() { fn(user, some); <-free })
		}
	}
	calls.Wait()
}

// callPlaces renews places of one user, or gives them back.
func (s *Store) callPlaces(what *redis.Script, user string, ids []string) error {
	ctx := context.Background()
	if what == script.Renew {
		ctx = rightData{ctx, s} // it would take them in others
	}
	return s.ask(ctx, &query{script: what, user: user, appendArgs: func(args *resp.Args, _ *quota.Plan, _ *layout) {
		own := script.PlaceArgs{IDs: ids}
		if what == script.Renew {
			own.RetakeUntil = s.Now().Add(s.timeout)
		}
		own.AppendTo(args)
	}}, new(outcome))
}
