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

// testModel draws calls and jumps of the clock, makes them on the store and on the model, and
// compares every result: 100 times 100 steps, unless the flags -rapid.checks and -rapid.steps
// say otherwise. A crashed gateway is one whose reservations nobody settles. Leases end, and
// attempts come back, 5 seconds away from the steps of the clock.
func testModel(t *testing.T, setup modelSetup, open Open) {
	if steps := flag.Lookup("rapid.steps"); steps.Value.String() == steps.DefValue {
		steps.Value.Set("100")
	}
	clock, calendar := NewClock(noon), quota.NewCalendar(nil)
	store := open(t, clock, calendar)
	plans := modelPlans(setup.notifyAt)
	byName := map[string]*quota.Plan{}
	for _, p := range plans {
		byName[p.Name()] = p
	}
	rapid.Check(t, func(t *rapid.T) {
		clock.Set(noon)
		c := &modelCheck{store: store, modelSetup: setup, clock: clock, calendar: calendar, plans: plans, byName: byName, run: quota.NewID(), models: map[string]*model{}}
		pool := newModel()
		pool.isPool = true
		c.models[c.poolName()] = pool
		for i := range 2 {
			c.models[c.userName(i)] = newModel()
			c.models[c.memberName(i)] = newModel()
			c.models[c.memberName(i)].pool = pool
		}
		steps := map[string]func(*rapid.T){
			"reserve":                   c.reserve,
			"reserve again":             c.reserveAgain,
			"commit":                    c.commit,
			"commit the rest":           c.commitRest,
			"release":                   c.release,
			"an administrator's change": c.applyChange,
			"audit":                     c.auditLog,
			"time goes on":              c.advance,
			"":                          c.read, // after every step
		}
		if setup.historyDays > 0 {
			steps["history"] = c.readHistory
		}
		if len(setup.notifyAt) > 0 {
			c.crossings = &crossingModel{modelCheck: c, waiting: map[string][]quota.Crossing{}, rearmed: map[string]map[string]int64{}}
			steps["crossings"] = c.crossings.read
			steps["end crossings"] = c.crossings.end
		}
		t.Repeat(steps)
		c.checkScan(t)
	})
}

// A modelSetup says what the store does beside counting.
type modelSetup struct {
	historyDays int   // it keeps a history; 0: it keeps none
	notifyAt    []int // the thresholds of all plans; nil: they have none
}

// modelPlans are the plans of the model's users, with thresholds.
func modelPlans(notifyAt []int) (plans []*quota.Plan) {
	for _, o := range []quota.PlanOptions{
		{Name: "small", Attempts: quota.AttemptLimit{Requests: 3, Per: 3 * 105 * time.Second}, Limits: []quota.Limit{
			{Amount: 4, Period: quota.Month}, {Amount: 2, Period: quota.Minute}, {Amount: 2, Period: quota.Day, Endpoint: "report"}}},
		// Other numbers for the same counters: limits that are changed while in use.
		{Name: "lowered", Attempts: quota.AttemptLimit{Requests: 2, Per: 70 * time.Second}, Limits: []quota.Limit{{Amount: 2, Period: quota.Month}}},
		{Name: "raised", Limits: []quota.Limit{
			{Amount: 6, Period: quota.Month}, {Amount: 3, Period: quota.Minute}, {Amount: 1, Period: quota.Day, Endpoint: "report"}}},
		{Name: "other", Limits: []quota.Limit{
			{Amount: 3, Period: quota.Week}, {Amount: 5, Period: quota.Ever, Endpoint: "report"}, {Amount: 3, Period: quota.Hour, Endpoint: "analyze"}}},
		{Name: "unlimited", Attempts: quota.AttemptLimit{Requests: 1, Per: 15 * time.Minute}},
		{Name: "observing", Observe: true, Attempts: quota.AttemptLimit{Requests: 2, Per: 70 * time.Second}, Limits: []quota.Limit{
			{Amount: 2, Period: quota.Month}, {Amount: 1, Period: quota.Minute}, {Amount: 1, Period: quota.Day, Endpoint: "report"}}},
		{Name: "weighted", Costs: weights, Limits: []quota.Limit{
			{Amount: 9, Period: quota.Month, Quantity: quota.Units}, {Amount: 6, Period: quota.Month},
			{Amount: 4, Period: quota.Day, Endpoint: "analyze", Quantity: quota.Units}}},
		{Name: "soft", Costs: weights, Limits: []quota.Limit{
			{Amount: 2, Period: quota.Month, Quantity: quota.Units, Soft: true}, {Amount: 1, Period: quota.Month, Soft: true}, {Amount: 5, Period: quota.Week}}},
		{Name: "team", Costs: weights, Limits: []quota.Limit{
			{Amount: 4, Period: quota.Month, Shared: true}, {Amount: 3, Period: quota.Month}, {Amount: 7, Period: quota.Day, Quantity: quota.Units, Shared: true},
			{Amount: 2, Period: quota.Minute, Endpoint: "report", Shared: true}, {Amount: 5, Period: quota.Day, Quantity: quota.Units, Soft: true, Shared: true}}},
	} {
		o.NotifyAt = notifyAt
		plans = append(plans, mustPlan(o))
	}
	return plans
}

// A modelCheck compares a store with the models of its users.
type modelCheck struct {
	modelSetup
	store     quota.Store
	clock     *Clock
	calendar  *quota.Calendar
	plans     []*quota.Plan
	byName    map[string]*quota.Plan
	crossings *crossingModel // nil: the plans have no thresholds

	run    string            // part of the names of its users, who are new to the store
	models map[string]*model // by user
	n      int               // requests so far
}

func (c *modelCheck) userName(i int) string { return fmt.Sprint("user-", i, "-", c.run) }

func (c *modelCheck) memberName(i int) string {
	return quota.MemberAccount("org-"+c.run, c.userName(i))
}

func (c *modelCheck) poolName() string { return quota.PoolAccount("org-" + c.run) }

// drawUser draws an account that makes requests.
func (c *modelCheck) drawUser(t *rapid.T) string {
	return rapid.SampledFrom([]string{c.userName(0), c.userName(1), c.memberName(0), c.memberName(1)}).Draw(t, "user")
}

// drawAccount draws any account.
func (c *modelCheck) drawAccount(t *rapid.T) string {
	if rapid.IntRange(0, 4).Draw(t, "pool") == 0 {
		return c.poolName()
	}
	return c.drawUser(t)
}

// drawChoice draws the plan that the user's token claims.
func (c *modelCheck) drawChoice(t *rapid.T, account string) quota.PlanChoice {
	return quota.PlanChoice{Claimed: c.plans[rapid.IntRange(0, len(c.plans)-1).Draw(t, "plan")], ByName: c.byName, Scope: quota.ScopeOf(account)}
}

// drawHold draws one of a user's reservations for which a call can still come.
func (c *modelCheck) drawHold(t *rapid.T, user string) *modelHold {
	var ids []string
	for id, h := range c.models[user].holds {
		isDue := func(settled time.Time) bool { return settled.IsZero() || c.clock.Now().Sub(settled) < repeatLimit }
		if isDue(h.settled) && isDue(h.restSettled) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		t.Skip("nothing is reserved")
	}
	// Sorted, because rapid must be able to draw the same one again.
	return c.models[user].holds[rapid.SampledFrom(slices.Sorted(slices.Values(ids))).Draw(t, "reservation")]
}

// wantSnapshot compares a snapshot of the store with the model.
func (c *modelCheck) wantSnapshot(t *rapid.T, user string, choice quota.PlanChoice, got quota.Snapshot) {
	t.Helper()
	want := c.models[user].snapshot(choice, c.calendar, c.clock.Now())
	if numbers(got) != numbers(want) || got.Plan != want.Plan {
		t.Fatalf("the store has %s of plan %s, the rules say %s of plan %s", numbers(got), got.Plan.Name(), numbers(want), want.Plan.Name())
	}
}

// takeToken makes an attempt in the model.
func (c *modelCheck) takeToken(t *rapid.T, user string, p *quota.Plan) (wait time.Duration) {
	wait, sure := c.models[user].takeToken(p.AttemptLimit(), c.clock.Now())
	if !sure {
		t.Skip("an attempt comes back at this moment")
	}
	return wait
}

func (c *modelCheck) wantAttemptWait(t *rapid.T, d *quota.Decision, wait time.Duration) {
	t.Helper()
	if (d.AttemptWait > 0) != (wait > 0) || (d.AttemptWait-wait).Abs() > 5*time.Second {
		t.Fatalf("next attempt in %v, the rules say %v", d.AttemptWait, wait)
	}
}

func (c *modelCheck) reserve(t *rapid.T) {
	user := c.drawUser(t)
	choice := c.drawChoice(t, user)
	c.n++
	r := quota.Request{ID: fmt.Sprintf("%04d-%s", c.n, c.run), User: user, Plans: choice, Lease: 65 * time.Second,
		Endpoint: rapid.SampledFrom(endpoints).Draw(t, "endpoint"),
		Units:    rapid.SampledFrom([]int64{0, 0, 1, 2, 3}).Draw(t, "units"),
		Observe:  rapid.IntRange(0, 3).Draw(t, "observe") == 0}
	before := c.models[user].snapshot(choice, c.calendar, c.clock.Now())
	p := before.Plan
	wait := c.takeToken(t, user, p)
	observed := r.Observe || p.Name() == "observing"
	hard, wouldBlock := limitsReached(before, r.Endpoint, r.HeldUnits(), wait)
	want := observed || len(hard) == 0

	d, err := c.store.Reserve(context.Background(), r)
	if want && d.Admitted && !observed {
		for i, l := range p.Limits() {
			if n := d.Snapshot.Limits[i]; !l.Soft && l.AppliesTo(r.Endpoint) && n.Used+n.Held > l.Amount+n.Granted {
				t.Fatalf("limit %s is at %d+%d of %d+%d", l.Name(), n.Used, n.Held, l.Amount, n.Granted)
			}
		}
	}
	if err != nil || d.Admitted != want {
		t.Fatalf("admitted %v (error %v), the rules say %v", d.Admitted, err, want)
	}
	if !observed {
		c.wantAttemptWait(t, d, wait)
		if !want {
			wouldBlock = nil
		}
	} else if d.AttemptWait != 0 {
		t.Fatalf("in observe mode the request has to wait %v", d.AttemptWait)
	}
	if !slices.Equal(d.WouldBlock, wouldBlock) {
		t.Fatalf("would be blocked by %q, the rules say %q", d.WouldBlock, wouldBlock)
	}
	date := quota.Date(0)
	if c.historyDays > 0 {
		date = c.calendar.DateAt(c.clock.Now())
	}
	if want && d.Reservation.Date != date {
		t.Fatalf("the request counts on %v, the rules say %v", d.Reservation.Date, date)
	}
	if want {
		d.Reservation.Unused = rapid.Int64Range(0, r.HeldUnits()).Draw(t, "unused")
		d.Reservation.Rest = rapid.Int64Range(0, d.Reservation.Unused).Draw(t, "rest")
		d.Reservation.RestCharged = rapid.Int64Range(0, d.Reservation.Rest).Draw(t, "charged of the rest")
		c.models[user].hold(d.Reservation, c.clock.Now().Add(r.Lease))
	}
	c.wantSnapshot(t, user, choice, d.Snapshot)
}

func (c *modelCheck) reserveAgain(t *rapid.T) {
	user := c.drawUser(t)
	h := c.drawHold(t, user)
	if h.settled.IsZero() && !h.restSettled.IsZero() {
		t.Skip("the request was answered already")
	}
	var wait time.Duration
	if h.settled.IsZero() && !h.isLive(c.clock.Now()) { // its lease has run out: it is a new attempt
		p := c.models[user].snapshot(h.reservation.Plans, c.calendar, c.clock.Now()).Plan
		if wait = c.takeToken(t, user, p); h.reservation.Observe || p.Name() == "observing" {
			wait = 0
		}
	}
	d, err := c.store.Reserve(context.Background(), h.reservation.Request)
	switch {
	case !h.settled.IsZero():
		if !errors.Is(err, quota.ErrSettled) {
			t.Fatalf("admitted %v (error %v), want %v", d.Admitted, err, quota.ErrSettled)
		}
	case h.isLive(c.clock.Now()):
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v (error %v), but it is held", d.Admitted, err)
		}
		if got, want := whereHeld(d.Reservation), whereHeld(h.reservation); got != want {
			t.Fatalf("a reserve that is repeated is held in %s, want %s", got, want)
		}
		c.wantSnapshot(t, user, h.reservation.Plans, d.Snapshot)
	default:
		c.wantAttemptWait(t, d, wait)
		h.settle(c.clock.Now(), false)
		if _, err := c.store.Release(context.Background(), &d.Reservation); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *modelCheck) commit(t *rapid.T) {
	user := c.drawUser(t)
	h := c.drawHold(t, user)
	if h.settled.IsZero() {
		c.crossings.note(user, h.reservation.Plans, &h.reservation, func() { c.models[user].commit(h.reservation, c.clock.Now()) })
		h.settle(c.clock.Now(), true)
	}
	s, err := c.store.Commit(context.Background(), &h.reservation)
	if err != nil {
		t.Fatal(err)
	}
	c.crossings.check(t, user)
	c.wantSnapshot(t, user, h.reservation.Plans, *s)
}

// commitRest settles a rest, also before its request is counted.
func (c *modelCheck) commitRest(t *rapid.T) {
	user := c.drawUser(t)
	h := c.drawHold(t, user)
	if h.reservation.Rest == 0 || !h.settled.IsZero() && !h.committed {
		t.Skip("there is no rest")
	}
	c.settleRest(t, user, h)
}

func (c *modelCheck) settleRest(t *rapid.T, user string, h *modelHold) {
	if r := h.reservation; h.restSettled.IsZero() {
		c.crossings.note(user, r.Plans, &r, func() { c.models[user].count(r, 0, r.RestCharged, c.clock.Now()) })
		h.settleRest(c.clock.Now())
	}
	s, err := c.store.CommitRest(context.Background(), &h.reservation)
	if err != nil {
		t.Fatal(err)
	}
	c.crossings.check(t, user)
	c.wantSnapshot(t, user, h.reservation.Plans, *s)
}

func (c *modelCheck) release(t *rapid.T) {
	user := c.drawUser(t)
	h := c.drawHold(t, user)
	if h.settled.IsZero() && !h.restSettled.IsZero() {
		t.Skip("the request was answered already")
	}
	if h.settled.IsZero() {
		h.settle(c.clock.Now(), false)
	}
	s, err := c.store.Release(context.Background(), &h.reservation)
	if err != nil {
		t.Fatal(err)
	}
	c.wantSnapshot(t, user, h.reservation.Plans, *s)
}

func (c *modelCheck) drawChange(t *rapid.T) quota.Change {
	change := quota.Change{ID: rapid.SampledFrom([]string{"", "", "one", "two"}).Draw(t, "id")}
	change.Action = rapid.SampledFrom([]quota.Action{quota.ActionGrant, quota.ActionReset, quota.ActionSetPlan,
		quota.ActionClearPlan, quota.ActionSetCounts}).Draw(t, "action")
	switch change.Action {
	case quota.ActionGrant:
		if change.Requests = rapid.Int64Range(1, 3).Draw(t, "requests"); rapid.Bool().Draw(t, "of units") {
			change.Requests, change.Units = 0, change.Requests
		}
		if change.Period = quota.Period(rapid.IntRange(0, int(quota.Ever)).Draw(t, "period")); change.Period != 0 {
			change.Endpoint = rapid.SampledFrom([]string{"", "analyze", "report"}).Draw(t, "endpoint")
		}
	case quota.ActionSetPlan:
		change.Plan = rapid.SampledFrom([]string{"small", "raised", "other", "unlimited", "observing", "weighted", "soft", "team", "gone"}).Draw(t, "override")
		if life := rapid.SampledFrom([]time.Duration{0, 65 * time.Second, 24*time.Hour + 5*time.Second}).Draw(t, "life"); life != 0 {
			change.Until = c.clock.Now().Add(life)
		}
	case quota.ActionSetCounts:
		change.Period = quota.Period(rapid.IntRange(int(quota.Minute), int(quota.Ever)).Draw(t, "period"))
		change.Counts = map[string]int64{}
		for _, endpoint := range endpoints[:rapid.IntRange(1, len(endpoints)).Draw(t, "endpoints")] {
			change.Counts[endpoint] = rapid.Int64Range(0, 4).Draw(t, "count")
			if change.Counts[endpoint] > 0 && rapid.Bool().Draw(t, "with units") {
				if change.CountUnits == nil {
					change.CountUnits = map[string]int64{}
				}
				change.CountUnits[endpoint] = rapid.Int64Range(0, 6).Draw(t, "units")
			}
		}
	}
	return change
}

func (c *modelCheck) applyChange(t *rapid.T) {
	user := c.drawAccount(t)
	choice := c.drawChoice(t, user)
	change := c.drawChange(t)
	var want error
	c.crossings.note(user, choice, nil, func() { want = c.models[user].applyChange(change, choice, c.calendar, c.clock.Now()) })
	s, err := c.store.ApplyChange(context.Background(), user, choice, change)
	if !errors.Is(err, want) {
		t.Fatalf("%+v: error %v, the rules say %v", change, err, want)
	}
	if err == nil {
		c.wantSnapshot(t, user, choice, s)
	}
	c.crossings.check(t, user)
}

func (c *modelCheck) auditLog(t *rapid.T) {
	user := c.drawAccount(t)
	entries, err := c.store.AuditLog(context.Background(), user)
	if err != nil {
		t.Fatal(err)
	}
	var want []quota.AuditEntry
	for _, e := range slices.Backward(c.models[user].changes) {
		// A gateway whose clock is wrong may not have learned the store's time yet.
		if left := e.At.Add(keep).Sub(c.clock.Now()); left.Abs() < 11*time.Minute {
			t.Skip("an entry is about to end")
		}
		if c.clock.Now().Before(e.At.Add(keep)) && len(want) < quota.MaxAuditEntries {
			want = append(want, e)
		}
	}
	if got := auditText(entries); got != auditText(want) {
		t.Fatalf("the audit log has %s, the rules say %s", got, auditText(want))
	}
}

func (c *modelCheck) advance(t *rapid.T) {
	step := rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute,
		time.Hour, 24 * time.Hour, 20 * 24 * time.Hour}).Draw(t, "step")
	// Answers end before: whether a gateway has renewed a rest during the step depends on real time.
	for _, user := range slices.Sorted(maps.Keys(c.models)) {
		if quota.ScopeOf(user) == quota.PoolScope {
			continue // with its members
		}
		for _, id := range slices.Sorted(maps.Keys(c.models[user].holds)) {
			if h := c.models[user].holds[id]; h.hasOpenRest() && !c.clock.Now().Add(step+5*time.Second).Before(h.restEnds) {
				c.settleRest(t, user, h)
			}
		}
	}
	if step >= 24*time.Hour {
		c.crossings.endAll(t) // none is there when its life ends
	}
	c.clock.Advance(step)
}

func (c *modelCheck) read(t *rapid.T) {
	user := c.drawAccount(t)
	choice := c.drawChoice(t, user)
	s, err := c.store.Read(context.Background(), user, choice)
	if err != nil {
		t.Fatal(err)
	}
	c.wantSnapshot(t, user, choice, s)
}
