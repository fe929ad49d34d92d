package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// A Redis that answers PING need not count: it may be a replica, or out of memory, or its user may
// lack a permission. Only counting shows it. A trial does on a key of the gateway's own, with the
// same scripts, what requests do: it reserves, releases and counts. The key ends by itself 20
// minutes after the last trial.

// checkUser stands for a user in the data of a trial; checkWindow begins the ids of the windows in
// which it counts.
const checkUser, checkWindow = "check", "check-"

// checkLife is how long at most what a trial has reserved or counted is left, if the trial does not
// get to its end.
const checkLife = time.Minute

// noCounts is the layout of a call that wants no counts and assumes no windows.
var noCounts = newLayout(laidOut{}, nil, laidOut{}, plainRequests{})

// kindKeys is how many keys Check uses to see whether a single Redis has all slots. With half of
// the slots it would miss that once in 2^64.
const kindKeys = 64

// Check finds out whether all masters are of the kind that the URL says, and count. An error says
// what is wrong and, if Redis has replied, what to change. It also looks for weaknesses.
func (s *Store) Check(ctx context.Context) error {
	keys := make([]string, kindKeys)
	for i := range keys {
		keys[i] = s.checkKey(strconv.Itoa(i))
	}
	var evicting evictions
	err := s.client.EachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		if err := master.Ping(ctx).Err(); err != nil {
			return err
		}
		evicting.look(ctx, master)
		return s.client.CheckKind(ctx, master, keys)
	})
	if err == nil {
		keys, err = s.client.KeyOnEachMaster(ctx, func(n int) string { return s.checkKey(strconv.Itoa(n)) })
	}
	if err != nil {
		return s.explain(err)
	}
	faults := make([]error, len(keys))
	var trials sync.WaitGroup
	for i, key := range keys {
		trials.Go(func() { faults[i] = s.tryCounting(ctx, key) })
	}
	trials.Wait()
	for _, fault := range faults {
		if fault != nil {
			return fault
		}
	}
	s.weaknesses.set(s.log, quota.EvictsCounts, evicting.fault(s.client.IsCluster()))
	s.checkAnnouncements(ctx)
	return nil
}

// Probe makes a trial where a user's counts are. It fails when calls for the user would.
func (s *Store) Probe(ctx context.Context, user string) error {
	return s.tryCounting(ctx, s.checkKey(user))
}

// checkKey returns the key of this gateway's trials that is in the slot of a user.
func (s *Store) checkKey(user string) string {
	return script.CheckKey(script.Key(s.prefix, user), s.id)
}

// tryCounting makes a trial on a key. It counts in a window of its own: the first count in a window
// takes commands that those after it do not.
func (s *Store) tryCounting(ctx context.Context, key string) error {
	id, windowID := quota.NewID(), checkWindow+quota.NewID()
	hold := script.ReserveArgs{ID: id, Endpoint: checkUser, Lease: checkLife, Units: 1, Windows: []quota.Window{{ID: windowID}}}
	reply, err := s.try(ctx, key, script.Reserve, 0, &hold)
	if err == nil && !reply.Admitted() {
		err = fmt.Errorf("a trial was not admitted, code %d", reply.Code)
	}
	if err != nil {
		return err
	}
	window := quota.Window{ID: windowID, End: reply.Time.Add(checkLife)}
	settle := func(id string, count bool) error {
		r := &quota.Reservation{Request: quota.Request{ID: id, Endpoint: checkUser}, Windows: []quota.Window{window}}
		_, err := s.try(ctx, key, script.Settle, 0, &script.SettleArgs{Count: count, Reservations: []*quota.Reservation{r}})
		return err
	}
	if err := settle(hold.ID, false); err != nil {
		return err
	}
	if err := settle(quota.NewID(), true); err != nil { // as after an outage: nothing is held
		// It may have counted before it failed. The marker of the release goes as well.
		left := append(script.UsedFields(windowID, checkUser), script.MarkerField(id))
		_ = s.client.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error { return r.HDel(ctx, key, left...).Err() })
		return err
	}
	// By an hour later all of it has ended, and is deleted, as it is of users.
	_, err = s.try(ctx, key, script.Read, time.Hour, nil)
	return err
}

// try runs a script on a key of trials. The clock is ahead by so much.
func (s *Store) try(ctx context.Context, key string, sc *redis.Script, ahead time.Duration, own interface{ AppendTo(*resp.Args) }) (script.Reply, error) {
	args, reply := new(resp.Args), new(redisclient.Reply)
	common := script.CommonArgs{Offset: s.offset() + ahead, ID: checkUser, Assumed: script.AnyOverride}
	common.AppendTo(args)
	args.AddAll(&noCounts.read.Args)
	if own != nil {
		own.AppendTo(args)
	}
	if err := s.client.Run(ctx, sc, key, "", args, reply); err != nil {
		return script.Reply{}, s.explain(err)
	}
	return script.ParseReply(&reply.Reply, 0, 0)
}
