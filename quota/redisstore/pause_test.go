package redisstore

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// Most users of an API of which each call takes seconds make a request, and then none for minutes. Such a request takes
// Redis as few commands as any other. The first one in a minute takes one more, to note when its counts end.
func TestRequestAfterAPauseIsPlain(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		server := redistest.Start(t)
		command := "evalsha"
		if !opt.scriptsOnly {
			server.Needs(t, "7.0", "functions")
			command = "fcall"
		}
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, server.URL(), clock)
		month, want := quota.Limit{Amount: 1000, Period: quota.Month}, map[string]int{command: 2, "time": 2, "hmget": 2, "hset": 2, "hdel": 1, "publish": 2, "pttl": 1}
		for _, second := range []quota.Period{quota.Day, quota.Minute} {
			p := quotatest.NewPlan("per "+second.String(), month, quota.Limit{Amount: 1000, Period: second})
			for range 2 { // the first request of a user is not plain
				mustCommit(t, s, reserveBy(t, s, p, p.Name()))
			}
			if second == quota.Minute {
				want["hsetnx"] = 1
			}
			for range 3 {
				reserveBy(t, s, p, "other")
				clock.Advance(10 * time.Minute)
				reserveBy(t, s, p, "other") // finds a hold that has ended, which is not plain, and harms nobody else
				got := allCommandsOf(t, server, func() {
					r := reserveBy(t, s, p, p.Name())
					mustCommit(t, s, r)
					s.Forget(r) // the next commit deletes its marker in the same HDEL
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: -want +got:\n%s", p.Name(), diff)
				}
			}
			s.markers.takeDue() // the last marker is not deleted in the background
			s.markers.takeDue()
		}
	})
}

// What has ended is deleted within the hour, and not only when the user pauses for longer.
func TestWhatHasEndedIsDeletedWithinTheHour(t *testing.T) {
	test := func(t *testing.T, opt Options) {
		clock := quotatest.NewClock(noon)
		opt.Keep = time.Second
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		p := quotatest.NewPlan("p", quota.Limit{Amount: 1000, Period: quota.Month}, quota.Limit{Amount: 1000, Period: quota.Minute})
		for range 60 {
			mustCommit(t, s, reserveBy(t, s, p, "u"))
			for field, value := range userHash(t, s, "u") {
				window, isEnd := strings.CutPrefix(field, "retain/")
				ends, _ := strconv.ParseInt(value, 10, 64)
				if isEnd && clock.Now().Sub(time.UnixMilli(ends)) > overdue {
					t.Fatalf("at %v, counts of %s are there that ended at %v", clock.Now(), window, time.UnixMilli(ends).UTC())
				}
			}
			clock.Advance(4 * time.Minute)
		}
		wantState(t, s, "u", 60, 0)
	}
	withFunctionsAndWithout(t, test)
	t.Run("functions where they are expected to serve", func(t *testing.T) { test(t, Options{}) })
}

// A hold that nobody settled is given back after a pause, and does not hide what others hold.
func TestPauseGivesBackWhatHasEnded(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		p := quotatest.NewPlan("p", quota.Limit{Amount: 5, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Day})
		for range 2 {
			mustCommit(t, s, reserveBy(t, s, p, "u"))
		}
		for range 3 { // all that is left is held, and never settled
			reserveBy(t, s, p, "u")
		}
		clock.Advance(10 * time.Minute)
		late := reserveBy(t, s, p, "u")
		if hash := userHash(t, s, "u"); hash["held/2026-11"] != "1" || s.ExpiredHolds() != 3 {
			t.Errorf("%s requests are held and %d holds have ended, want 1 and 3", hash["held/2026-11"], s.ExpiredHolds())
		}
		clock.Advance(10 * time.Minute) // the request takes so long that its hold has ended as well
		mustCommit(t, s, late)
		if hash := userHash(t, s, "u"); hash["held/2026-11"] != "" || hash["used/2026-11"] != "3" || s.LostHolds() != 1 {
			t.Errorf("%q requests are held, %s counted and %d holds lost, want none, 3 and 1", hash["held/2026-11"], hash["used/2026-11"], s.LostHolds())
		}
	})
}

// A hash of so many fields that Redis takes long to find one of them becomes a table.
func TestManyCountsAreATable(t *testing.T) {
	clock := quotatest.NewClock(noon)
	server := redistest.Start(t)
	server.Needs(t, "7.0", "listpack")
	s := openAt(t, server.URL(), clock)
	p := quotatest.NewPlan("p", quota.Limit{Amount: 1000, Period: quota.Month}, quota.Limit{Amount: 1000, Period: quota.Minute})
	for user, pause := range map[string]time.Duration{"listpack": 10 * time.Minute, "hashtable": time.Minute} {
		for range 90 {
			clock.Advance(pause)
			r := reserveBy(t, s, p, user)
			mustCommit(t, s, r)
			s.Forget(r)
		}
		if got := commands(s).ObjectEncoding(ctx, key(s, user)).Val(); got != user {
			t.Errorf("with a request each %v, Redis keeps the hash as a %s", pause, got)
		}
	}
}
