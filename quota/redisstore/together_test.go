package redisstore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// Many requests at once are served by one command of Redis. Each counts for its own user and for nobody else, whatever is
// wrong with others: here some users have damaged data.
func TestRequestsServedTogetherCountForTheirUsers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Needs(t, "7.0", "functions")
	s := openLike(t, Options{functionsFirst: true}, server.URL(), quotatest.NewClock(noon))
	p := quotatest.NewPlan("many", quota.Limit{Amount: 50, Period: quota.Month}, quota.Limit{Amount: 1000, Period: quota.Day})
	const users, damaged, workers, rounds = 12, 3, 32, 40
	var used [users]atomic.Int64
	user := func(i int) string { return fmt.Sprint("user-", i) }
	for i := range users {
		mustCommit(t, s, reserveBy(t, s, p, user(i)))
		used[i].Add(1)
	}
	damage := [damaged]struct {
		commands [][]any
		error    string
	}{
		{[][]any{{"DEL", key(s, user(0))}, {"SET", key(s, user(0)), "not a hash"}}, "WRONGTYPE Operation"},
		{[][]any{{"DEL", key(s, user(1))}, {"LPUSH", key(s, user(1)), "not a hash"}}, "WRONGTYPE Operation"},
		{[][]any{{"HSET", key(s, user(2)), "used/2026-11", "not a number"}}, "attempt to perform arithmetic"},
	}
	for _, d := range damage {
		for _, command := range d.commands {
			server.Do(command...)
		}
	}
	var requests atomic.Int64
	serve := func(i int, count bool) {
		d, err := s.Reserve(ctx, requestBy(p, user(i)))
		switch requests.Add(1); {
		case i < damaged:
			if err == nil || !strings.Contains(err.Error(), damage[i].error) {
				t.Errorf("user %d: admitted %v, error %v, want %s", i, d.Admitted, err, damage[i].error)
			}
		case err != nil:
			t.Errorf("user %d: %v", i, err)
		case d.Admitted:
			if _, err := settleBy(s, &d.Reservation, count); err != nil {
				t.Errorf("user %d: %v", i, err)
			}
			s.Forget(&d.Reservation)
			if count {
				used[i].Add(1)
			}
			requests.Add(1)
		}
	}
	var running sync.WaitGroup
	got := allCommandsOf(t, server, func() {
		for range workers {
			running.Go(func() {
				for range rounds {
					serve(rand.IntN(users), rand.IntN(4) > 0)
				}
			})
		}
		running.Wait()
	})
	if n := requests.Load(); int64(got["fcall"]) >= n {
		t.Errorf("%d calls of functions for %d reserves and settlements: none were served together", got["fcall"], n)
	}
	for i := damaged; i < users; i++ {
		snap, err := s.Read(ctx, user(i), p.OnlyChoice())
		if want := used[i].Load(); err != nil || snap.Total.Used != want || snap.Total.Held != 0 || want > 50 {
			t.Errorf("user %d has %d used, %d held (error %v), want %d and none", i, snap.Total.Used, snap.Total.Held, err, want)
		}
		for field := range commands(s).HGetAll(ctx, key(s, user(i))).Val() {
			if strings.HasPrefix(field, "lease/") {
				t.Errorf("user %d still has %s", i, field)
			}
		}
	}
}
