package quotatest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// A model is what the rules say of one user: the same as a store, without
// concurrency, durability or economy.
type model struct {
	used         map[string]map[string]int64      // by window id and endpoint
	granted      map[string]map[string]int64      // the same; an empty endpoint: all
	holds        map[string]*modelHold            // by reservation id
	bucketFullAt map[quota.AttemptLimit]time.Time // when the bucket of a rule is
	override     quota.Override
	changes      []quota.AuditEntry // newest last
}

func newModel() *model {
	return &model{used: map[string]map[string]int64{}, granted: map[string]map[string]int64{}, holds: map[string]*modelHold{}, bucketFullAt: map[quota.AttemptLimit]time.Time{}}
}

type modelHold struct {
	reservation quota.Reservation
	expires     time.Time
	settled     time.Time // zero: not yet
}

// exceeded says what refuses a request when s is the state before it, and there is an
// attempt in wait.
func limitsReached(s quota.Snapshot, endpoint string, wait time.Duration) (names []string) {
	for i, l := range s.Plan.Limits() {
		if c := s.Limits[i]; l.AppliesTo(endpoint) && c.Used+c.Held >= l.Requests+c.Granted {
			names = append(names, l.Name())
		}
	}
	if wait > 0 {
		names = append(names, "attempts")
	}
	return names
}

func (h *modelHold) isLive(now time.Time) bool { return h.settled.IsZero() && now.Before(h.expires) }

// resettled is how long after a reservation was settled a call for it may come
// again; stores forget it after 10 minutes.
const repeatLimit = 9 * time.Minute

func (m *model) snapshot(t quota.PlanChoice, cal *quota.Calendar, now time.Time) quota.Snapshot {
	p := t.Claimed
	if named := t.ByName[m.override.Plan]; named != nil && (m.override.Until.IsZero() || now.Before(m.override.Until)) {
		p = named
	}
	var counts []quota.Count
	for i, c := range p.Counters() {
		count := quota.Count{Window: cal.WindowAt(c.Period, now)}
		if i < len(p.Limits()) {
			count.Granted = m.granted[count.Window.ID][c.Endpoint]
		}
		for endpoint, n := range m.used[count.Window.ID] {
			if c.Endpoint == "" || c.Endpoint == endpoint {
				count.Used += n
			}
		}
		for _, h := range m.holds {
			for _, w := range h.reservation.Windows {
				if w.ID == count.Window.ID && h.isLive(now) && (c.Endpoint == "" || c.Endpoint == h.reservation.Endpoint) {
					count.Held++
				}
			}
		}
		counts = append(counts, count)
	}
	return p.NewSnapshot(now, counts)
}

// attempt makes one and returns how long it would have to wait; then it was not made.
// Not sure: a store whose clock is a little ahead may say otherwise, and it was not made
// either.
func (m *model) takeToken(a quota.AttemptLimit, now time.Time) (wait time.Duration, sure bool) {
	full, wait := a.TakeToken(m.bucketFullAt[a], now)
	_, ahead := a.TakeToken(m.bucketFullAt[a], now.Add(5*time.Second))
	_, behind := a.TakeToken(m.bucketFullAt[a].Add(5*time.Second), now)
	if sure = (wait > 0) == (ahead > 0) && (wait > 0) == (behind > 0); sure && wait == 0 && a.Requests > 0 {
		m.bucketFullAt[a] = full
	}
	return wait, sure
}

func (m *model) applyChange(c quota.Change, t quota.PlanChoice, cal *quota.Calendar, now time.Time) error {
	for _, e := range m.changes {
		if c.ID == "" || e.ID != c.ID || !now.Before(e.At.Add(quota.ChangeIDLife)) {
			continue
		}
		if e.Action == c.Action && e.Requests == c.Requests && e.Endpoint == c.Endpoint && e.Period == c.Period &&
			e.Plan == c.Plan && e.Until.Equal(c.Until) && maps.Equal(e.Counts, c.Counts) {
			return nil
		}
		return quota.ErrIDConflict
	}
	at := func(all map[string]map[string]int64, per quota.Period) map[string]int64 {
		id := cal.WindowAt(per, now).ID
		if all[id] == nil {
			all[id] = map[string]int64{}
		}
		return all[id]
	}
	switch c.Action {
	case quota.ActionGrant:
		p := m.snapshot(t, cal, now).Plan
		i := slices.IndexFunc(p.Limits(), func(l quota.Limit) bool {
			return l.Endpoint == c.Endpoint && (l.Period == c.Period || c.Period == 0)
		})
		if i < 0 {
			return quota.ErrNoSuchLimit
		}
		l := p.Limits()[i]
		at(m.granted, l.Period)[l.Endpoint] += c.Requests
	case quota.ActionReset:
		for per := quota.Minute; per <= quota.Year; per++ {
			clear(at(m.used, per))
		}
	case quota.ActionSetPlan:
		m.override = quota.Override{Plan: c.Plan, Until: c.Until}
	case quota.ActionClearPlan:
		m.override = quota.Override{}
	case quota.ActionSetCounts:
		maps.Copy(at(m.used, c.Period), c.Counts)
	}
	m.changes = append(m.changes, quota.AuditEntry{At: now, Change: c})
	return nil
}

func (m *model) commit(r quota.Reservation, now time.Time) {
	for _, w := range r.Windows {
		if !w.RetainedUntil(keep).After(now) {
			continue
		}
		if m.used[w.ID] == nil {
			m.used[w.ID] = map[string]int64{}
		}
		m.used[w.ID][r.Endpoint]++
	}
}

// keep is how long stores keep counts by default.
const keep = 400 * 24 * time.Hour

// actions shows an audit list.
func auditText(entries []quota.AuditEntry) (text string) {
	for _, e := range entries {
		text += fmt.Sprint(" ", e.Action, e.Requests, e.Endpoint, e.Plan, e.Counts)
	}
	return text
}

// testModel draws calls and jumps of the clock, makes them on the store and on
// the model, and compares every answer: 100 times 100 steps, unless the flags
// -rapid.checks and -rapid.steps say otherwise. A gateway that crashes is one whose
// reservations nobody settles. Leases end at 5 seconds past the steps of the clock.
func testModel(t *testing.T, open Open) {
	if steps := flag.Lookup("rapid.steps"); steps.Value.String() == steps.DefValue {
		steps.Value.Set("100")
	}
	clock, cal := NewClock(noon), quota.NewCalendar(nil)
	store := open(t, clock, cal)
	plans := []*quota.Plan{
		// Their attempts come back at 5 seconds past the steps of the clock, too.
		NewAttemptLimitedPlan("small", quota.AttemptLimit{Requests: 3, Per: 3 * 105 * time.Second}, quota.Limit{Requests: 4, Period: quota.Month},
			quota.Limit{Requests: 2, Period: quota.Minute}, quota.Limit{Requests: 2, Period: quota.Day, Endpoint: "report"}),
		// Another number for the same counters: a limit that was changed while in use.
		NewAttemptLimitedPlan("lowered", quota.AttemptLimit{Requests: 2, Per: 70 * time.Second}, quota.Limit{Requests: 2, Period: quota.Month}),
		NewPlan("raised", quota.Limit{Requests: 6, Period: quota.Month},
			quota.Limit{Requests: 3, Period: quota.Minute}, quota.Limit{Requests: 1, Period: quota.Day, Endpoint: "report"}),
		NewPlan("other", quota.Limit{Requests: 3, Period: quota.Week}, quota.Limit{Requests: 3, Period: quota.Hour, Endpoint: "analyze"}),
		NewAttemptLimitedPlan("unlimited", quota.AttemptLimit{Requests: 1, Per: 15 * time.Minute}),
		NewObservingPlan("observing", quota.AttemptLimit{Requests: 2, Per: 70 * time.Second}, quota.Limit{Requests: 2, Period: quota.Month},
			quota.Limit{Requests: 1, Period: quota.Minute}, quota.Limit{Requests: 1, Period: quota.Day, Endpoint: "report"}),
	}
	named := map[string]*quota.Plan{}
	for _, p := range plans {
		named[p.Name()] = p
	}
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		clock.Set(noon)
		run := quota.NewID()
		models := map[string]*model{}
		for i := range 2 {
			models[fmt.Sprint("user-", i, "-", run)] = newModel()
		}
		user := func(t *rapid.T) string { return fmt.Sprint("user-", rapid.IntRange(0, 1).Draw(t, "user"), "-", run) }
		// terms have the plan that the token claims.
		terms := func(t *rapid.T) quota.PlanChoice {
			return quota.PlanChoice{Claimed: plans[rapid.IntRange(0, len(plans)-1).Draw(t, "plan")], ByName: named}
		}
		same := func(t *rapid.T, user string, terms quota.PlanChoice, got quota.Snapshot) {
			t.Helper()
			want := models[user].snapshot(terms, cal, clock.Now())
			if numbers(got) != numbers(want) || got.Plan != want.Plan {
				t.Fatalf("store has %s of plan %s, the rules say %s of plan %s", numbers(got), got.Plan.Name(), numbers(want), want.Plan.Name())
			}
		}
		// known draws one of a user's reservations that a call may still come for.
		known := func(t *rapid.T, user string) *modelHold {
			var ids []string
			for id, h := range models[user].holds {
				if h.settled.IsZero() || clock.Now().Sub(h.settled) < repeatLimit {
					ids = append(ids, id)
				}
			}
			if len(ids) == 0 {
				t.Skip("nothing reserved")
			}
			// Maps have no order, and rapid has to draw the same again.
			return models[user].holds[rapid.SampledFrom(slices.Sorted(slices.Values(ids))).Draw(t, "reservation")]
		}
		// attempt makes one in the model.
		attempt := func(t *rapid.T, user string, p *quota.Plan) (wait time.Duration) {
			wait, sure := models[user].takeToken(p.AttemptLimit(), clock.Now())
			if !sure {
				t.Skip("an attempt comes back just now")
			}
			return wait
		}
		throttled := func(t *rapid.T, d *quota.Decision, wait time.Duration) {
			t.Helper()
			if (d.AttemptWait > 0) != (wait > 0) || (d.AttemptWait-wait).Abs() > 5*time.Second {
				t.Fatalf("attempts again in %v, the rules say %v", d.AttemptWait, wait)
			}
		}
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				user, terms := user(t), terms(t)
				n++
				r := quota.Request{ID: fmt.Sprintf("%04d-%s", n, run), User: user, Plans: terms, Lease: 65 * time.Second,
					Endpoint: rapid.SampledFrom(endpoints).Draw(t, "endpoint"),
					Observe:  rapid.IntRange(0, 3).Draw(t, "observe") == 0}
				before := models[user].snapshot(terms, cal, clock.Now())
				p := before.Plan
				wait := attempt(t, user, p)
				observed := r.Observe || p.Name() == "observing"
				wouldBlock := limitsReached(before, r.Endpoint, wait)
				want := observed || len(wouldBlock) == 0
				d, err := store.Reserve(ctx, r)
				if want && d.Admitted && !observed {
					for i, l := range p.Limits() {
						if c := d.Snapshot.Limits[i]; l.AppliesTo(r.Endpoint) && c.Used+c.Held > l.Requests+c.Granted {
							t.Fatalf("limit %s is at %d+%d of %d+%d", l.Name(), c.Used, c.Held, l.Requests, c.Granted)
						}
					}
				}
				if err != nil || d.Admitted != want {
					t.Fatalf("admitted %v (error %v), the rules say %v", d.Admitted, err, want)
				}
				if !observed {
					throttled(t, d, wait)
					wouldBlock = nil
				} else if d.AttemptWait != 0 {
					t.Fatalf("has to wait %v, and is observed", d.AttemptWait)
				}
				if !slices.Equal(d.WouldBlock, wouldBlock) {
					t.Fatalf("would be blocked by %q, the rules say %q", d.WouldBlock, wouldBlock)
				}
				if want {
					models[user].holds[r.ID] = &modelHold{reservation: d.Reservation, expires: clock.Now().Add(r.Lease)}
				}
				same(t, user, terms, d.Snapshot)
			},
			"reserve again": func(t *rapid.T) {
				user := user(t)
				h := known(t, user)
				var wait time.Duration
				if h.settled.IsZero() && !h.isLive(clock.Now()) { // a new hold, or none; nobody does this
					p := models[user].snapshot(h.reservation.Plans, cal, clock.Now()).Plan
					if wait = attempt(t, user, p); h.reservation.Observe || p.Name() == "observing" {
						wait = 0
					}
				}
				d, err := store.Reserve(ctx, h.reservation.Request)
				switch {
				case !h.settled.IsZero():
					if !errors.Is(err, quota.ErrSettled) {
						t.Fatalf("admitted %v (error %v), want %v", d.Admitted, err, quota.ErrSettled)
					}
				case h.isLive(clock.Now()):
					if err != nil || !d.Admitted {
						t.Fatalf("admitted %v (error %v), it was already", d.Admitted, err)
					}
					same(t, user, h.reservation.Plans, d.Snapshot)
				default:
					throttled(t, d, wait)
					h.settled = clock.Now()
					if _, err := store.Release(ctx, &d.Reservation); err != nil {
						t.Fatal(err)
					}
				}
			},
			"commit": func(t *rapid.T) {
				user := user(t)
				h := known(t, user)
				if h.settled.IsZero() {
					models[user].commit(h.reservation, clock.Now())
					h.settled = clock.Now()
				}
				s, err := store.Commit(ctx, &h.reservation)
				if err != nil {
					t.Fatal(err)
				}
				same(t, user, h.reservation.Plans, *s)
			},
			"release": func(t *rapid.T) {
				user := user(t)
				h := known(t, user)
				if h.settled.IsZero() {
					h.settled = clock.Now()
				}
				s, err := store.Release(ctx, &h.reservation)
				if err != nil {
					t.Fatal(err)
				}
				same(t, user, h.reservation.Plans, *s)
			},
			"an administrator's change": func(t *rapid.T) {
				user, terms := user(t), terms(t)
				c := quota.Change{ID: rapid.SampledFrom([]string{"", "", "one", "two"}).Draw(t, "id")}
				switch c.Action = rapid.SampledFrom([]quota.Action{quota.ActionGrant, quota.ActionReset, quota.ActionSetPlan,
					quota.ActionClearPlan, quota.ActionSetCounts}).Draw(t, "action"); c.Action {
				case quota.ActionGrant:
					c.Requests = rapid.Int64Range(1, 3).Draw(t, "requests")
					if c.Period = quota.Period(rapid.IntRange(0, int(quota.Year)).Draw(t, "per")); c.Period != 0 {
						c.Endpoint = rapid.SampledFrom([]string{"", "analyze", "report"}).Draw(t, "endpoint")
					}
				case quota.ActionSetPlan:
					c.Plan = rapid.SampledFrom([]string{"small", "raised", "other", "unlimited", "observing", "gone"}).Draw(t, "override")
					if life := rapid.SampledFrom([]time.Duration{0, 65 * time.Second, 24*time.Hour + 5*time.Second}).Draw(t, "life"); life != 0 {
						c.Until = clock.Now().Add(life)
					}
				case quota.ActionSetCounts:
					c.Period = quota.Period(rapid.IntRange(int(quota.Minute), int(quota.Year)).Draw(t, "per"))
					c.Counts = map[string]int64{}
					for _, endpoint := range endpoints[:rapid.IntRange(1, len(endpoints)).Draw(t, "endpoints")] {
						c.Counts[endpoint] = rapid.Int64Range(0, 4).Draw(t, "count")
					}
				}
				want := models[user].applyChange(c, terms, cal, clock.Now())
				s, err := store.ApplyChange(ctx, user, terms, c)
				if !errors.Is(err, want) {
					t.Fatalf("%+v: error %v, the rules say %v", c, err, want)
				}
				if err == nil {
					same(t, user, terms, s)
				}
			},
			"audit": func(t *rapid.T) {
				user := user(t)
				entries, err := store.AuditLog(ctx, user)
				if err != nil {
					t.Fatal(err)
				}
				var want []quota.AuditEntry
				for _, e := range slices.Backward(models[user].changes) {
					// A gateway whose clock is wrong may have yet to learn the time.
					if left := e.At.Add(keep).Sub(clock.Now()); left.Abs() < 11*time.Minute {
						t.Skip("an entry is about to end")
					}
					if clock.Now().Before(e.At.Add(keep)) && len(want) < quota.MaxAuditEntries {
						want = append(want, e)
					}
				}
				if got := auditText(entries); got != auditText(want) {
					t.Fatalf("the audit list has %s, the rules say %s", got, auditText(want))
				}
			},
			"time goes on": func(t *rapid.T) {
				clock.Advance(rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute,
					time.Hour, 24 * time.Hour, 20 * 24 * time.Hour}).Draw(t, "step"))
			},
			"": func(t *rapid.T) {
				user, terms := user(t), terms(t)
				s, err := store.Read(ctx, user, terms)
				if err != nil {
					t.Fatal(err)
				}
				same(t, user, terms, s)
			},
		})
	})
}
