package quotatest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// A model is what the rules say of one user: the same as a store, without
// concurrency, durability or economy.
type model struct {
	used  map[string]map[string]int64 // by window id and endpoint
	holds map[string]*hold            // by reservation id
	full  time.Time                   // when the bucket of attempts is
}

type hold struct {
	reservation quota.Reservation
	expires     time.Time
	settled     time.Time // zero: not yet
}

func (h *hold) live(now time.Time) bool { return h.settled.IsZero() && now.Before(h.expires) }

// resettled is how long after a reservation was settled a call for it may come
// again; stores forget it after 10 minutes.
const resettled = 9 * time.Minute

func (m *model) snapshot(p *quota.Plan, cal *quota.Calendar, now time.Time) quota.Snapshot {
	var counts []quota.Count
	for _, c := range p.Counters() {
		count := quota.Count{Window: cal.Window(c.Per, now)}
		for endpoint, n := range m.used[count.Window.ID] {
			if c.Endpoint == "" || c.Endpoint == endpoint {
				count.Used += n
			}
		}
		for _, h := range m.holds {
			for _, w := range h.reservation.Windows {
				if w.ID == count.Window.ID && h.live(now) && (c.Endpoint == "" || c.Endpoint == h.reservation.Endpoint) {
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
func (m *model) attempt(a quota.Attempts, now time.Time) (wait time.Duration, sure bool) {
	full, wait := a.Take(m.full, now)
	_, ahead := a.Take(m.full, now.Add(5*time.Second))
	_, behind := a.Take(m.full.Add(5*time.Second), now)
	if sure = (wait > 0) == (ahead > 0) && (wait > 0) == (behind > 0); sure && wait == 0 && a.Requests > 0 {
		m.full = full
	}
	return wait, sure
}

func (m *model) commit(r quota.Reservation, now time.Time) {
	for _, w := range r.Windows {
		if !w.Retain(400 * 24 * time.Hour).After(now) {
			continue
		}
		if m.used[w.ID] == nil {
			m.used[w.ID] = map[string]int64{}
		}
		m.used[w.ID][r.Endpoint]++
	}
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
		NewBoundPlan("small", quota.Attempts{Requests: 3, Per: 3 * 105 * time.Second}, quota.Limit{Requests: 4, Per: quota.Month},
			quota.Limit{Requests: 2, Per: quota.Minute}, quota.Limit{Requests: 2, Per: quota.Day, Endpoint: "report"}),
		// Another number for the same counters: a limit that was changed while in use.
		NewBoundPlan("lowered", quota.Attempts{Requests: 2, Per: 70 * time.Second}, quota.Limit{Requests: 2, Per: quota.Month}),
		NewPlan("raised", quota.Limit{Requests: 6, Per: quota.Month},
			quota.Limit{Requests: 3, Per: quota.Minute}, quota.Limit{Requests: 1, Per: quota.Day, Endpoint: "report"}),
		NewPlan("other", quota.Limit{Requests: 3, Per: quota.Week}, quota.Limit{Requests: 3, Per: quota.Hour, Endpoint: "analyze"}),
		NewBoundPlan("unlimited", quota.Attempts{Requests: 1, Per: 15 * time.Minute}),
	}
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		clock.Set(noon)
		run := quota.NewID()
		models := map[string]*model{}
		for i := range 2 {
			models[fmt.Sprint("user-", i, "-", run)] = &model{used: map[string]map[string]int64{}, holds: map[string]*hold{}}
		}
		user := func(t *rapid.T) string { return fmt.Sprint("user-", rapid.IntRange(0, 1).Draw(t, "user"), "-", run) }
		plan := func(t *rapid.T) *quota.Plan { return plans[rapid.IntRange(0, len(plans)-1).Draw(t, "plan")] }
		same := func(t *rapid.T, user string, p *quota.Plan, got quota.Snapshot) {
			t.Helper()
			if want := models[user].snapshot(p, cal, clock.Now()); numbers(got) != numbers(want) {
				t.Fatalf("plan %s: store has %s, the rules say %s", p.Name(), numbers(got), numbers(want))
			}
		}
		// known draws one of a user's reservations that a call may still come for.
		known := func(t *rapid.T, user string) *hold {
			var ids []string
			for id, h := range models[user].holds {
				if h.settled.IsZero() || clock.Now().Sub(h.settled) < resettled {
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
			wait, sure := models[user].attempt(p.Attempts(), clock.Now())
			if !sure {
				t.Skip("an attempt comes back just now")
			}
			return wait
		}
		throttled := func(t *rapid.T, d quota.Decision, wait time.Duration) {
			t.Helper()
			if (d.RetryAttempt > 0) != (wait > 0) || (d.RetryAttempt-wait).Abs() > 5*time.Second {
				t.Fatalf("attempts again in %v, the rules say %v", d.RetryAttempt, wait)
			}
		}
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				user, p := user(t), plan(t)
				n++
				r := quota.Request{ID: fmt.Sprintf("%04d-%s", n, run), User: user, Plan: p, Lease: 65 * time.Second,
					Endpoint: rapid.SampledFrom(endpoints).Draw(t, "endpoint")}
				wait := attempt(t, user, p)
				want := wait == 0 && models[user].snapshot(p, cal, clock.Now()).Admits(r.Endpoint)
				d, err := store.Reserve(ctx, r)
				if want && d.Admitted {
					for i, l := range p.Limits() {
						if c := d.Snapshot.Limits[i]; l.Applies(r.Endpoint) && c.Used+c.Held > l.Requests {
							t.Fatalf("limit %s is at %d+%d of %d", l.Name(), c.Used, c.Held, l.Requests)
						}
					}
				}
				if err != nil || d.Admitted != want {
					t.Fatalf("admitted %v (error %v), the rules say %v", d.Admitted, err, want)
				}
				throttled(t, d, wait)
				if want {
					models[user].holds[r.ID] = &hold{reservation: d.Reservation, expires: clock.Now().Add(r.Lease)}
				}
				same(t, user, p, d.Snapshot)
			},
			"reserve again": func(t *rapid.T) {
				user := user(t)
				h := known(t, user)
				var wait time.Duration
				if h.settled.IsZero() && !h.live(clock.Now()) { // a new hold, or none; nobody does this
					wait = attempt(t, user, h.reservation.Plan)
				}
				d, err := store.Reserve(ctx, h.reservation.Request)
				switch {
				case !h.settled.IsZero():
					if !errors.Is(err, quota.ErrSettled) {
						t.Fatalf("admitted %v (error %v), want %v", d.Admitted, err, quota.ErrSettled)
					}
				case h.live(clock.Now()):
					if err != nil || !d.Admitted {
						t.Fatalf("admitted %v (error %v), it was already", d.Admitted, err)
					}
					same(t, user, h.reservation.Plan, d.Snapshot)
				default:
					throttled(t, d, wait)
					h.settled = clock.Now()
					if _, err := store.Release(ctx, d.Reservation); err != nil {
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
				s, err := store.Commit(ctx, h.reservation)
				if err != nil {
					t.Fatal(err)
				}
				same(t, user, h.reservation.Plan, s)
			},
			"release": func(t *rapid.T) {
				user := user(t)
				h := known(t, user)
				if h.settled.IsZero() {
					h.settled = clock.Now()
				}
				s, err := store.Release(ctx, h.reservation)
				if err != nil {
					t.Fatal(err)
				}
				same(t, user, h.reservation.Plan, s)
			},
			"time goes on": func(t *rapid.T) {
				clock.Advance(rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute,
					time.Hour, 24 * time.Hour, 20 * 24 * time.Hour}).Draw(t, "step"))
			},
			"": func(t *rapid.T) {
				user, p := user(t), plan(t)
				s, err := store.Read(ctx, user, p)
				if err != nil {
					t.Fatal(err)
				}
				same(t, user, p, s)
			},
		})
	})
}
