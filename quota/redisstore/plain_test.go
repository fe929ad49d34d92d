package redisstore

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// A plain request makes Redis run so few commands. Whoever needs another one finds it here.
func TestPlainRequestRunsFewCommands(t *testing.T) {
	server := redistest.Start(t)
	limits := []quota.Limit{{Amount: 1000, Period: quota.Month}, {Amount: 1000, Period: quota.Day}}
	attempts, err := quota.NewPlan(quota.PlanOptions{
		Name: "attempts", Endpoints: []string{"analyze"}, WarnAt: 80, Limits: limits, Attempts: quota.AttemptLimit{Requests: 1000, Per: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := openAt(t, server.URL(), quotatest.NewClock(noon))
	for _, p := range []*quota.Plan{quotatest.NewPlan("limits", limits...), attempts} {
		var held []*quota.Reservation
		for range 3 { // the first requests send the scripts, and note when things end
			held = append(held, reserveBy(t, s, p, p.Name()))
		}
		mustCommit(t, s, held[0])
		for others := 2; others >= 0; others-- {
			got := allCommandsOf(t, server, func() {
				r := reserveBy(t, s, p, p.Name())
				mustCommit(t, s, r)
				s.Forget(r) // the next commit deletes its marker in the same HDEL
			})
			want := map[string]int{"evalsha": 2, "time": 2, "hmget": 2, "hset": 2, "hdel": 1, "publish": 2, "pttl": 1}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, while %d others are held: -want +got:\n%s", p.Name(), others, diff)
			}
			if others > 0 {
				mustCommit(t, s, held[others])
			}
		}
	}
}

// A request that cannot be plain, because its user has a plan override or a plan has terms, costs no more than before
// there were plain ones.
func TestOtherRequestsRunAsFewCommandsAsBefore(t *testing.T) {
	server := redistest.Start(t)
	limits := []quota.Limit{{Amount: 1000, Period: quota.Month}, {Amount: 1000, Period: quota.Day}}
	s, p := openAt(t, server.URL(), quotatest.NewClock(noon)), quotatest.NewPlan("free", limits...)
	if _, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), quota.Change{Action: quota.ActionSetPlan, Plan: p.Name()}); err != nil {
		t.Fatal(err)
	}
	withTerms := p.OnlyChoice()
	withTerms.Terms = true
	for user, choice := range map[string]quota.PlanChoice{"u": p.OnlyChoice(), "v": withTerms} {
		serve := func() {
			t.Helper()
			r := newRequest(user)
			r.Plans = choice
			d, err := s.Reserve(ctx, r)
			if err != nil || !d.Admitted {
				t.Fatalf("%+v, %v", d, err)
			}
			mustCommit(t, s, &d.Reservation)
		}
		serve() // the first request sends the scripts, and notes when things end
		serve()
		got := allCommandsOf(t, server, serve)
		// One HMGET to reserve, and two to settle. With terms, each script reads them as well.
		if got["hmget"] != 3 || got["hincrby"] != 12 {
			t.Errorf("%s: %v, want 3 HMGET and 12 HINCRBY", user, got)
		}
	}
}

// Requests of this version and of release 0.1.0 on one hash leave there what those of the release alone would leave.
func TestPlainRequestsBesideRelease(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openAt(t, redistest.Start(t).URL(), clock)
	p := quotatest.NewPlan("free", quota.Limit{Amount: 100_000, Period: quota.Month}, quota.Limit{Amount: 100_000, Period: quota.Day})
	scripts := releaseScripts(t)
	release := func(name, user string, own ...any) {
		t.Helper()
		args := append([]any{clock.Offset().Milliseconds(), user, "*", 0, int64(1) << 52, 0, 0}, own...)
		if err := commands(s).Eval(ctx, scripts["common"]+scripts[name], []string{key(s, user)}, args...).Err(); err != nil {
			t.Fatal(name, err)
		}
	}
	reserve := func(r *quota.Reservation, byRelease bool) {
		t.Helper()
		if byRelease {
			windows := ""
			for _, w := range r.Windows {
				windows += " " + w.ID
			}
			release("reserve", r.User, "lease/"+r.ID, "done/"+r.ID, "attempts/0/0", r.Lease.Milliseconds(), r.Endpoint+windows, 0, 0, 0, "free")
		} else if d, err := s.Reserve(ctx, r.Request); err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
	}
	settle := func(r *quota.Reservation, count, byRelease bool) {
		t.Helper()
		if byRelease {
			own := []any{1, "lease/" + r.ID, "done/" + r.ID, map[bool]int{true: 1, false: 0}[count], r.Endpoint, len(r.Windows)}
			for _, w := range r.Windows {
				own = append(own, w.ID, w.RetainedUntil(s.keep).UnixMilli())
			}
			release("settle", r.User, own...)
		} else if _, err := settleBy(s, r, count); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(user string) map[string]string {
		fields := userHash(t, s, user)
		for field, value := range fields {
			switch {
			case field == "user" || field == "sweep":
				delete(fields, field)
			case strings.HasPrefix(field, "lease/"):
				_, fields[field], _ = strings.Cut(value, " ")
			case strings.HasPrefix(field, "done/"):
				fields[field] = ""
			}
		}
		return fields
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var held []quota.Reservation
	for step := range 400 {
		r, isNew := quota.Reservation{}, len(held) == 0 || random.IntN(2) == 0
		if isNew {
			r = quota.Reservation{Request: requestBy(p, ""), Plan: p, Windows: s.calendar.WindowsAt(p.Periods(), clock.Now())}
			r.Endpoint = []string{"analyze", "report"}[random.IntN(2)]
			held = append(held, r)
		} else {
			i := random.IntN(len(held))
			r = held[i]
			held = append(held[:i], held[i+1:]...)
		}
		count, mixed := random.IntN(4) > 0, random.IntN(2) == 0
		for _, user := range []string{"release", "mixed"} {
			byRelease := user == "release" || mixed
			if r.User = user; isNew {
				reserve(&r, byRelease)
			} else {
				settle(&r, count, byRelease)
			}
		}
		if diff := cmp.Diff(hash("release"), hash("mixed")); diff != "" {
			t.Fatalf("seed %d, step %d: -release +mixed:\n%s", seed, step, diff)
		}
	}
	for _, user := range []string{"release", "mixed"} {
		if life := commands(s).PTTL(ctx, key(s, user)).Val(); life < 400*24*time.Hour {
			t.Errorf("the key of %s lives for %v", user, life)
		}
	}
}

// A key lives as long as all that a plain call writes into it, and is swept before any of that ends.
func TestPlainCallsKeepTheKey(t *testing.T) {
	const day = 24 * time.Hour
	month := quotatest.NewPlan("month", quota.Limit{Amount: 100, Period: quota.Month})
	minute := quotatest.NewAttemptLimitedPlan("minute", quota.AttemptLimit{Requests: 100, Per: time.Second}, quota.Limit{Amount: 100, Period: quota.Minute})
	slow := quotatest.NewAttemptLimitedPlan("slow", quota.AttemptLimit{Requests: 9, Per: day}, quota.Limit{Amount: 100, Period: quota.Minute})
	for _, c := range []struct {
		name            string
		plan            *quota.Plan
		keep, keepAfter time.Duration
		commits         bool
		leaseAfter      time.Duration // of the second request
	}{
		{"counts are kept for longer than before", month, 30 * day, 400 * day, true, time.Minute},
		{"counts are kept for less time", month, 400 * day, day, true, 50 * time.Hour},
		{"counts are kept for seconds", month, time.Second, time.Second, true, time.Minute},
		{"nothing was counted", month, 30 * day, 30 * day, false, 50 * time.Minute},
		{"a long lease", minute, 30 * day, 30 * day, true, 50 * time.Hour},
		{"a bucket that is full late", slow, 30 * day, 30 * day, true, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock, server := quotatest.NewClock(time.Date(2026, time.November, 30, 23, 59, 5, 0, time.UTC)), redistest.Start(t)
			for i, keep := range []time.Duration{c.keep, c.keepAfter, c.keepAfter} {
				s := openWith(t, Options{URL: server.URL(), Timeout: patient, Now: clock.Now, Offset: clock.Offset, Keep: keep})
				request := requestBy(c.plan, "u")
				if i > 0 {
					request.Lease = c.leaseAfter
				}
				d, err := s.Reserve(ctx, request)
				if err != nil || !d.Admitted {
					t.Fatal(d.Admitted, err)
				}
				wantSweepBeforeEnds(t, s, clock, "u")
				if _, err := settleBy(s, &d.Reservation, c.commits); err != nil {
					t.Fatal(err)
				}
				wantSweepBeforeEnds(t, s, clock, "u")
				marker := userHash(t, s, "u")[script.MarkerField(d.Reservation.ID)]
				if ends, _ := strconv.ParseInt(marker, 10, 64); time.UnixMilli(ends).Sub(clock.Now()) < 9*time.Minute {
					t.Errorf("the marker ends at %s", marker)
				}
			}
		})
	}
}

// Where no sweep is noted, it is: a hash without one is never swept.
func TestPlainCallsNoteTheSweep(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
	mustCommit(t, s, &first)
	for what, call := range map[string]func(){"reserve": func() { mustReserve(t, s, "u") }, "commit": func() { mustCommit(t, s, &r) }} {
		commands(s).HDel(ctx, key(s, "u"), script.FieldSweep)
		if call(); userHash(t, s, "u")[script.FieldSweep] == "" {
			t.Errorf("no sweep is noted after %s", what)
		}
	}
}

// A request that is settled is not counted, even if it is still held.
func TestPlainCommitCountsOnce(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
	mustCommit(t, s, &first)
	ends := time.Now().Add(time.Hour).UnixMilli()
	if err := commands(s).HSet(ctx, key(s, "u"), script.MarkerField(r.ID), ends).Err(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, &r)
	wantState(t, s, "u", 1, 1)
}

// A count that is no number fails a plain call before it has changed anything.
func TestPlainCallsFindDamage(t *testing.T) {
	for _, field := range []string{"used/2026-11", "used/2026-11/analyze", "held/2026-11", "held/2026-11/analyze"} {
		clock := quotatest.NewClock(noon)
		s := openAt(t, redistest.Start(t).URL(), clock)
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		if err := commands(s).HSet(ctx, key(s, "u"), field, "x").Err(); err != nil {
			t.Fatal(err)
		}
		before := userHash(t, s, "u")
		if _, err := s.Commit(ctx, &r); err == nil {
			t.Errorf("no error with %s", field)
		}
		if _, err := s.Reserve(ctx, newRequest("u")); err == nil && field != "used/2026-11/analyze" { // not looked at
			t.Errorf("no error of a reservation with %s", field)
		} else if diff := cmp.Diff(before, userHash(t, s, "u")); err != nil && diff != "" {
			t.Errorf("%s: -before +after:\n%s", field, diff)
		}
	}
}

// A number that Lua cannot count exactly is left to Redis.
func TestPlainCommitCountsLargeNumbers(t *testing.T) {
	for before, want := range map[string]string{"9007199254740993": "9007199254740994", "1.5": "1.5"} {
		clock := quotatest.NewClock(noon)
		s := openAt(t, redistest.Start(t).URL(), clock)
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		if err := commands(s).HSet(ctx, key(s, "u"), "used/2026-11", before).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Commit(ctx, &r)
		if got := userHash(t, s, "u")["used/2026-11"]; got != want || (err == nil) != (before != want) {
			t.Errorf("%s became %s (error %v), want %s", before, got, err, want)
		}
	}
}
