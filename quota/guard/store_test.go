package guard_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

var (
	ctx  = context.Background()
	five = quotatest.NewPlan("five", quota.Limit{Requests: 5, Period: quota.Month})
)

// A guardedRedis is a guarded store on a real Redis, with a cable in between.
type guardedRedis struct {
	t       *testing.T
	redis   *redistest.Server
	cable   *redistest.Cable
	options guard.Options
	*guard.Store
}

type setup struct {
	allow       bool
	timeout     time.Duration // 0: 2 s
	connections int
	now         func() time.Time
	keep        time.Duration
}

func newGuardedRedis(t *testing.T, s setup) *guardedRedis {
	t.Helper()
	if s.timeout == 0 {
		s.timeout = 2 * time.Second
	}
	if s.keep == 0 {
		s.keep = 400 * 24 * time.Hour
	}
	r := &guardedRedis{t: t, redis: redistest.Start(t)}
	r.cable = redistest.Connect(t, r.redis.Addr)
	var offset func() time.Duration
	if s.now != nil {
		offset = func() time.Duration { return time.Until(s.now()) }
	}
	remote, err := redisstore.Open(redisstore.Options{URL: r.cable.URL(), Timeout: s.timeout,
		InFlight: s.connections, Now: s.now, Offset: offset, Keep: s.keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remote.Close() })
	r.options = guard.Options{Remote: remote, Journal: openJournal(t, t.TempDir()), AllowOnFailure: s.allow,
		Timeout: s.timeout, Calendar: quota.NewCalendar(nil), Keep: s.keep}
	r.Store = open(t, r.options)
	return r
}

func openJournal(t *testing.T, dir string) *guard.Journal {
	t.Helper()
	j, err := guard.OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func open(t *testing.T, o guard.Options) *guard.Store {
	t.Helper()
	s, err := guard.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// down takes Redis away, and up gives it back.
func (r *guardedRedis) down() { r.cable.Refuse(true); r.cable.CutAll() }
func (r *guardedRedis) up()   { r.cable.Heal() }

func request(user string, p *quota.Plan) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: 5 * time.Minute}
}

// admit reserves a unit that there has to be.
func (r *guardedRedis) admit(user string, p *quota.Plan) *quota.Reservation {
	r.t.Helper()
	d, err := r.Reserve(ctx, request(user, p))
	if err != nil || !d.Admitted {
		r.t.Fatalf("admitted %v, error %v; want true", d.Admitted, err)
	}
	return &d.Reservation
}

func (r *guardedRedis) use(n int, user string, p *quota.Plan) {
	r.t.Helper()
	for range n {
		r.commit(r.admit(user, p))
	}
}

func (r *guardedRedis) commit(res *quota.Reservation) quota.Snapshot {
	r.t.Helper()
	s, err := r.Commit(ctx, res)
	if err != nil {
		r.t.Fatalf("Commit: %v", err)
	}
	return *s
}

// want reads a user's state: "used+held", and "stale" behind it.
func (r *guardedRedis) want(user string, p *quota.Plan, want string) {
	r.t.Helper()
	if got := r.state(user, p); got != want {
		r.t.Errorf("state of %s is %s, want %s", user, got, want)
	}
}

func (r *guardedRedis) state(user string, p *quota.Plan) string {
	s, err := r.Read(ctx, user, p.OnlyChoice())
	if err != nil {
		return err.Error()
	}
	return numbers(s)
}

func numbers(s quota.Snapshot) string {
	text := fmt.Sprintf("%d+%d", s.Total.Used, s.Total.Held)
	if s.Stale {
		text += " stale"
	}
	return text
}

func (r *guardedRedis) settled() {
	r.t.Helper()
	testkit.EventuallyWithin(r.t, time.Minute, "the journal is empty", func() bool { st := r.Stats(); return st.Backlog == 0 && st.OpenBreakers == 0 })
}

// A guarded store passes the suite as the store behind it does: nobody notices it.
func TestSuite(t *testing.T) {
	url := redistest.Start(t).URL()
	guarded := func(t testing.TB, remote guard.Remote, calendar *quota.Calendar) quota.Store {
		j, err := guard.OpenJournal(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s, err := guard.New(guard.Options{Remote: remote, Journal: j, AllowOnFailure: true, Timeout: 20 * time.Second,
			Calendar: calendar, Keep: 400 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if st := s.Stats(); st.Journaled != 0 || st.Unchecked != 0 {
				t.Errorf("the journal was used: %+v", st)
			}
			s.Close()
		})
		return s
	}
	t.Run("redis", func(t *testing.T) {
		quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			remote, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "test-" + quota.NewID(), Timeout: 20 * time.Second,
				Calendar: calendar, Now: clock.Now, Offset: clock.Offset})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { remote.Close() })
			return guarded(t, remote, calendar)
		})
	})
	t.Run("bolt", func(t *testing.T) {
		quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			remote, err := boltstore.Open(t.TempDir(), boltstore.Options{Calendar: calendar, Now: clock.Now})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { remote.Close() })
			return guarded(t, remote, calendar)
		})
	})
}

func TestDeny(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.use(2, "u", five)
	running := r.admit("u", five)
	r.down()
	for range 10 {
		if d, err := r.Reserve(ctx, request("u", five)); err == nil || d.Admitted {
			t.Fatalf("admitted %v, error %v; want an error", d.Admitted, err)
		}
	}
	// What was admitted before counts, and shows.
	if got := numbers(r.commit(running)); got != "3+0 stale" {
		t.Errorf("after a commit the state is %s, want 3+0 stale", got)
	}
	r.want("u", five, "3+0 stale")
	if st := r.Stats(); st.Backlog != 1 || st.Journaled != 1 || st.OpenBreakers != 1 {
		t.Errorf("%+v", st)
	}
	if _, err := r.Read(ctx, "never seen", five.OnlyChoice()); err == nil {
		t.Error("something is known of a user who was never seen")
	}
	r.up()
	r.settled()
	r.want("u", five, "3+0")
	r.use(2, "u", five)
	if d, err := r.Reserve(ctx, request("u", five)); err != nil || d.Admitted {
		t.Errorf("the sixth of five: admitted %v, error %v", d.Admitted, err)
	}
}

// To observe is to block nothing: an outage is no reason, whatever on_failure says. What
// passes is in the journal, and counted once.
func TestObserveInAnOutage(t *testing.T) {
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("allow %v", allow), func(t *testing.T) {
			r := newGuardedRedis(t, setup{allow: allow})
			limit := quota.Limit{Requests: 2, Period: quota.Month}
			enforcing := quotatest.NewPlan("p", limit)
			observing := quotatest.NewObservingPlan("p", quota.AttemptLimit{Requests: 3, Per: 24 * time.Hour}, limit)
			// pass makes a request that would be blocked by so many names.
			pass := func(q quota.Request, want string) {
				t.Helper()
				d, err := r.Reserve(ctx, q)
				if err != nil || !d.Admitted || !d.Reservation.Unchecked || fmt.Sprint(d.WouldBlock) != want {
					t.Fatalf("admitted %v, unchecked %v, would be blocked by %v, error %v; want true, true, %s", d.Admitted, d.Reservation.Unchecked, d.WouldBlock, err, want)
				}
				r.commit(&d.Reservation)
			}
			r.use(1, "u", enforcing)
			r.down()
			pass(request("u", observing), "[]")
			pass(request("u", observing), "[month]")
			route := request("u", enforcing)
			route.Observe = true
			pass(route, "[month]")
			pass(request("u", observing), "[month]")
			pass(request("u", observing), "[month attempts]")
			if d, err := r.Reserve(ctx, request("u", enforcing)); d.Admitted || (err == nil) != allow {
				t.Errorf("not observed: admitted %v, error %v", d.Admitted, err)
			}
			r.want("u", observing, "6+0 stale")
			r.up()
			r.settled()
			r.want("u", observing, "6+0")
			if d, err := r.Reserve(ctx, request("u", enforcing)); err != nil || d.Admitted {
				t.Errorf("the seventh of two: admitted %v, error %v", d.Admitted, err)
			}
		})
	}
}

// Without the store the last known usage still bounds a user, and one never seen
// starts at 0; nothing of it is lost when the store is back.
func TestAllow(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(2, "seen", five)
	running := r.admit("seen", five)
	r.down()
	r.commit(running)
	for user, left := range map[string]int{"seen": 2, "new": 5} {
		failed := r.admit(user, five)
		if !failed.Unchecked {
			t.Error("admitted without the store, and not marked so")
		}
		r.want(user, five, fmt.Sprintf("%d+1 stale", 5-left))
		r.Release(ctx, failed)
		r.use(left, user, five)
		d, err := r.Reserve(ctx, request(user, five))
		if err != nil || d.Admitted || numbers(d.Snapshot) != "5+0 stale" {
			t.Errorf("%s, one too many: admitted %v at %s, error %v", user, d.Admitted, numbers(d.Snapshot), err)
		}
	}
	if st := r.Stats(); st.Backlog != 8 {
		t.Errorf("backlog %d, want 8", st.Backlog)
	}
	r.up()
	r.settled()
	r.want("seen", five, "5+0")
	r.want("new", five, "5+0")
}

// Attempts are bounded without the store, too, by a bucket of the gateway's own, and
// what is refused leaves nothing to settle.
func TestAttemptsInAnOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	p := quotatest.NewBoundPlan("p", quota.AttemptLimit{Requests: 3, Per: 24 * time.Hour}, quota.Limit{Requests: 2, Period: quota.Month})
	throttled := func(user, state string) {
		t.Helper()
		d, err := r.Reserve(ctx, request(user, p))
		if err != nil || d.Admitted || d.AttemptWait <= 0 || d.AttemptWait > 8*time.Hour || numbers(d.Snapshot) != state {
			t.Errorf("%s: admitted %v at %s, attempts again in %v, error %v; want false at %s, up to 8h",
				user, d.Admitted, numbers(d.Snapshot), d.AttemptWait, err, state)
		}
	}
	r.use(1, "u", p)
	r.Release(ctx, r.admit("u", p))
	r.Release(ctx, r.admit("u", p))
	throttled("u", "1+0")
	r.down()
	for user, used := range map[string]int{"u": 1, "new": 0} {
		r.Release(ctx, r.admit(user, p))
		r.use(2-used, user, p)
		for range used {
			if d, err := r.Reserve(ctx, request(user, p)); err != nil || d.Admitted || d.AttemptWait != 0 {
				t.Errorf("the third of two: admitted %v, attempts again in %v, error %v", d.Admitted, d.AttemptWait, err)
			}
		}
		throttled(user, "2+0 stale")
		throttled(user, "2+0 stale")
	}
	r.up()
	r.settled()
	throttled("u", "2+0")
	r.want("new", p, "2+0")
}

// A second outage after the first: what was counted from the journal in between is
// not forgotten, though the user has not been back.
func TestTwoOutages(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(1, "u", five)
	r.down()
	r.use(3, "u", five)
	r.up()
	r.settled()
	r.down()
	r.use(1, "u", five)
	if d, _ := r.Reserve(ctx, request("u", five)); d.Admitted {
		t.Error("the sixth of five was admitted")
	}
}

// Each of these loses the answer of a commit that Redis has done.
func TestLostAnswerOfACommit(t *testing.T) {
	for name, fate := range map[string]redistest.Fate{"never comes": redistest.Swallow, "connection cut": redistest.Cut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newGuardedRedis(t, setup{timeout: time.Second})
			res := r.admit("u", five)
			r.cable.OnReply(func(redistest.Command, string) redistest.Fate { return fate })
			if got := numbers(r.commit(res)); got != "1+0 stale" {
				t.Errorf("state %s, want 1+0 stale", got)
			}
			r.up()
			r.settled()
			r.want("u", five, "1+0")
		})
	}
}

// A reserve whose answer was lost does not keep its unit until the lease ends.
func TestLostAnswerOfAReserve(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Second})
	r.use(1, "u", five)
	r.cable.OnReply(func(redistest.Command, string) redistest.Fate { return redistest.Cut })
	if _, err := r.Reserve(ctx, request("u", five)); err == nil {
		t.Fatal("no error")
	}
	r.up()
	testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool { return r.state("u", five) == "1+0" })
}

// When it may pass all the same, its unit counts as one: it is held, perhaps, and
// the commit settles it.
func TestLostAnswerOfAReserveThatPasses(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true, timeout: time.Second})
	r.use(1, "u", five)
	r.cable.OnReply(func(redistest.Command, string) redistest.Fate { return redistest.Cut })
	res := r.admit("u", five)
	r.up()
	r.commit(res)
	r.settled()
	r.want("u", five, "2+0")
}

func TestReleaseDuringAnOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	res := r.admit("u", five)
	r.down()
	if s, err := r.Release(ctx, res); err != nil || !s.Stale {
		t.Errorf("stale %v, error %v", s.Stale, err)
	}
	r.up()
	testkit.EventuallyWithin(t, time.Minute, "the unit is back", func() bool { return r.state("u", five) == "0+0" })
}

// The journal is counted before the user's next reserve is, however fast he is.
func TestEntriesGoFirst(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	for round := range 20 {
		user := fmt.Sprint("user-", round)
		r.down()
		r.use(4, user, five)
		r.up()
		var d *quota.Decision
		testkit.EventuallyWithin(t, time.Minute, "the store decides", func() bool {
			var err error
			if d, err = r.Reserve(ctx, request(user, five)); err != nil {
				t.Fatal(err)
			}
			if d.Reservation.Unchecked {
				r.Release(ctx, &d.Reservation)
			}
			return !d.Reservation.Unchecked
		})
		if got := numbers(d.Snapshot); got != "4+1" {
			t.Fatalf("the first decision of the store was made at %s, want 4+1", got)
		}
	}
}

// A gateway that dies in an outage, or while the journal is replayed, leaves it to
// the next one, which counts each entry once.
func TestJournalOutlivesTheProcess(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	dir := t.TempDir()
	o := r.options
	o.Journal = openJournal(t, dir)
	first := open(t, o)
	r.down()
	const users, each = 20, 5
	for i := range users {
		for range each {
			d, err := first.Reserve(ctx, request(fmt.Sprint("user-", i), five))
			if err != nil || !d.Admitted {
				t.Fatal(d.Admitted, err)
			}
			if _, err := first.Commit(ctx, &d.Reservation); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What a crash would leave: the file as it is now.
	image, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	r.up()
	testkit.EventuallyWithin(t, time.Minute, "the first has replayed some", func() bool { return first.Stats().Replayed > 0 })
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journal.db"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Journal = openJournal(t, dir)
	second := open(t, o)
	testkit.EventuallyWithin(t, time.Minute, "both are done", func() bool { return first.Stats().Backlog == 0 && second.Stats().Backlog == 0 })
	if n := second.Stats().Replayed; n != users*each {
		t.Errorf("the second replayed %d, want %d", n, users*each)
	}
	for i := range users {
		s, err := second.Read(ctx, fmt.Sprint("user-", i), five.OnlyChoice())
		if err != nil || numbers(s) != "5+0" {
			t.Errorf("user-%d: %s, error %v; want 5+0", i, numbers(s), err)
		}
	}
	// And what was removed stays removed.
	second.Close()
	third := openJournal(t, dir)
	o.Journal = third
	if n := open(t, o).Stats().Backlog; n != 0 {
		t.Errorf("%d entries are left in the file", n)
	}
}

// A count that nobody can read any more is dropped, and said so.
func TestOldEntriesAreDropped(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	perMinute := quotatest.NewPlan("minute", quota.Limit{Requests: 5, Period: quota.Minute})
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	r.use(1, "u", perMinute)
	r.down()
	r.use(2, "u", perMinute)
	r.use(1, "v", five)
	clock.Advance(3 * time.Hour) // minutes are kept for two
	r.up()
	r.settled()
	if st := r.Stats(); st.Dropped != 2 || st.Replayed != 1 {
		t.Errorf("%d dropped, %d replayed; want 2 and 1", st.Dropped, st.Replayed)
	}
	r.want("v", five, "1+0")
}

// In an outage Redis is asked by the probe and nobody else, and nobody waits for
// it, not even for a free connection.
func TestBreaker(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Second, connections: 8})
	r.use(1, "u", five)
	var calls, probes atomic.Int64
	r.cable.OnCommand(func(c redistest.Command) redistest.Fate {
		if len(c) > 0 && (c[0] == "set" || c[0] == "SET") {
			probes.Add(1)
		} else {
			calls.Add(1)
		}
		return redistest.Swallow
	})
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := r.Reserve(ctx, request("u", five)); err == nil {
				t.Error("no error")
			}
		})
	}
	wait.Wait()
	if r.Stats().OpenBreakers != 1 {
		t.Fatal("the breaker is not open")
	}
	// The connections are made anew, which takes commands of its own each time.
	if n := calls.Load(); n > 40 {
		t.Errorf("50 calls reached Redis as %d commands", n)
	}
	before := calls.Load()
	for range 1000 {
		r.Reserve(ctx, request("u", five))
	}
	testkit.EventuallyWithin(t, time.Minute, "it is probed", func() bool { return probes.Load() > 1 || calls.Load() > before })
	r.up()
	testkit.EventuallyWithin(t, time.Minute, "normal service", func() bool { _, err := r.Reserve(ctx, request("u", five)); return err == nil })
}

// One lost answer is not an outage.
func TestOneFailureOpensNothing(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.use(1, "u", five)
	r.cable.CutAll()
	r.redis.Stop()
	r.Reserve(ctx, request("u", five))
	r.redis.Start()
	if r.Stats().OpenBreakers != 0 {
		t.Error("one failure has opened the breaker")
	}
}

// Nor is a connection that breaks, however many calls were under way on it.
func TestOneConnectionOpensNothing(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Minute})
	r.use(1, "u", five)
	const calls = 20
	sent := make(chan bool, calls)
	r.cable.OnCommand(func(redistest.Command) redistest.Fate { sent <- true; return redistest.Pass })
	r.cable.SwallowReplies(true)
	var wait sync.WaitGroup
	for range calls {
		wait.Go(func() {
			if s, err := r.Read(ctx, "u", five.OnlyChoice()); err != nil || !s.Stale {
				t.Errorf("error %v, stale %v, want the last known numbers", err, s.Stale)
			}
		})
	}
	for range calls {
		<-sent
	}
	r.cable.CutAll()
	wait.Wait()
	if r.Stats().OpenBreakers != 0 {
		t.Error("one connection has opened the breaker")
	}
	r.cable.Heal()
	r.want("u", five, "1+0")
}

// An overloaded gateway says nothing about the store.
func TestOverloadIsNoOutage(t *testing.T) {
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	remote := &busy{Store: local}
	s := open(t, guard.Options{Remote: remote, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true, Timeout: time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	d, err := s.Reserve(ctx, request("u", five))
	if err != nil {
		t.Fatal(err)
	}
	remote.yes.Store(true)
	for range 20 {
		if _, err := s.Reserve(ctx, request("u", five)); !errors.Is(err, quota.ErrOverloaded) {
			t.Fatalf("error %v, want %v: it must not pass", err, quota.ErrOverloaded)
		}
	}
	if _, err := s.Commit(ctx, &d.Reservation); err != nil {
		t.Errorf("a commit that finds the gateway overloaded: %v", err)
	}
	if s.Stats().OpenBreakers != 0 {
		t.Error("the breaker is open")
	}
	remote.yes.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "it is counted", func() bool { s, err := s.Read(ctx, "u", five.OnlyChoice()); return err == nil && numbers(s) == "1+0" })
}

// What runs here counts as held when the store is gone, whoever admitted it.
func TestRunningRequestsBound(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	for range 4 {
		r.admit("u", five)
	}
	r.down()
	last := r.admit("u", five)
	if d, err := r.Reserve(ctx, request("u", five)); err != nil || d.Admitted {
		t.Errorf("the sixth of five at once: admitted %v, error %v", d.Admitted, err)
	}
	r.want("u", five, "0+5 stale")
	r.Release(ctx, last)
	r.admit("u", five)
}

// A slow Redis is slow, not down: connections that take several answers to be made,
// and scripts that have to be loaded, do not use up the time of one call for ever.
func TestSlowButUp(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Second})
	r.cable.Delay(700 * time.Millisecond) // a new connection takes two answers, a new script one more
	testkit.EventuallyWithin(t, time.Minute, "it serves", func() bool {
		d, err := r.Reserve(ctx, request("u", five))
		if err == nil && d.Admitted {
			r.Release(ctx, &d.Reservation)
		}
		return err == nil
	})
	r.cable.CutAll()
	testkit.EventuallyWithin(t, time.Minute, "it serves again", func() bool {
		_, err := r.Read(ctx, "u", five.OnlyChoice())
		return err == nil && r.Stats().OpenBreakers == 0
	})
}

// To close does not wait for a long backlog; it is in the file.
func TestCloseIsBounded(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.down()
	for i := range 100 {
		r.use(1, fmt.Sprint("user-", i), five)
	}
	r.up()
	r.cable.Delay(300 * time.Millisecond)
	began := time.Now()
	r.Close()
	if took := time.Since(began); took > 15*time.Second { // one after the other they would take 30
		t.Errorf("Close took %v", took)
	}
}

// Without a journal a count that the store does not take is said to be lost if the
// process dies.
func TestNoJournal(t *testing.T) {
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	remote := &busy{Store: local}
	s := open(t, guard.Options{Remote: remote, Timeout: time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	d, err := s.Reserve(ctx, request("u", five))
	if err != nil {
		t.Fatal(err)
	}
	remote.yes.Store(true)
	if _, err := s.Commit(ctx, &d.Reservation); err == nil || s.Stats().JournalErrors != 1 {
		t.Errorf("error %v, %+v; want an error, and that it is counted as such", err, s.Stats())
	}
	remote.yes.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "it is counted", func() bool { s, err := s.Read(ctx, "u", five.OnlyChoice()); return err == nil && numbers(s) == "1+0" })
}

// busy is a store whose gateway has no connection free.
type busy struct {
	*boltstore.Store
	yes atomic.Bool
}

func (b *busy) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	if b.yes.Load() {
		return &quota.Decision{Reservation: quota.Reservation{Request: r}}, quota.ErrOverloaded
	}
	return b.Store.Reserve(ctx, r)
}

func (b *busy) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if b.yes.Load() {
		return nil, quota.ErrOverloaded
	}
	return b.Store.Commit(ctx, r)
}

func (b *busy) Replay(ctx context.Context, user string, rs []quota.Reservation) error {
	if b.yes.Load() {
		return quota.ErrOverloaded
	}
	return b.Store.Replay(ctx, user, rs)
}

// Many at once, through an outage that begins and ends meanwhile: every commit that
// returned is counted, once.
func TestNothingIsLostAroundAnOutage(t *testing.T) {
	unlimited := quotatest.NewPlan("enterprise")
	r := newGuardedRedis(t, setup{allow: true})
	var counted [4]atomic.Int64
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 16 {
		wait.Go(func() {
			user := worker % len(counted)
			for {
				select {
				case <-stop:
					return
				default:
				}
				d, err := r.Reserve(ctx, request(fmt.Sprint("user-", user), unlimited))
				if err != nil || !d.Admitted {
					t.Errorf("admitted %v, error %v", d.Admitted, err)
					return
				}
				if _, err := r.Commit(ctx, &d.Reservation); err != nil {
					t.Error(err)
					return
				}
				counted[user].Add(1)
			}
		})
	}
	for range 3 {
		testkit.EventuallyWithin(t, time.Minute, "it works", func() bool { return r.Stats().OpenBreakers == 0 })
		n := counted[0].Load()
		testkit.EventuallyWithin(t, time.Minute, "some are counted", func() bool { return counted[0].Load() > n+50 })
		r.down()
		testkit.EventuallyWithin(t, time.Minute, "it is noticed", func() bool { return r.Stats().OpenBreakers == 1 })
		n = counted[0].Load()
		testkit.EventuallyWithin(t, time.Minute, "some are counted in the journal", func() bool { return counted[0].Load() > n+50 })
		r.up()
	}
	close(stop)
	wait.Wait()
	r.settled()
	for user := range counted {
		r.want(fmt.Sprint("user-", user), unlimited, fmt.Sprintf("%d+0", counted[user].Load()))
	}
}

func TestJournalFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "anew")
	j := openJournal(t, dir)
	if _, err := guard.OpenJournal(dir); !errors.Is(err, guard.ErrInUse) {
		t.Errorf("a second one: error %v, want %v", err, guard.ErrInUse)
	}
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	open(t, guard.Options{Remote: local, Journal: j, Timeout: time.Second, Calendar: quota.NewCalendar(nil), Keep: time.Hour}).Close()
	openJournal(t, dir) // free again

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.OpenJournal(file); err == nil {
		t.Error("a file was taken for a folder")
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "journal.db"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.OpenJournal(filepath.Dir(file)); err == nil {
		t.Error("a file of something else was taken for a journal")
	}
}
