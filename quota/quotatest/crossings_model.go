package quotatest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// A crossingModel is what the rules say of the crossings of a modelCheck. A nil one is for plans without
// thresholds.
type crossingModel struct {
	*modelCheck
	waiting map[string][]quota.Crossing // by account
	rearmed map[string]map[string]int64 // by account and window ID
}

// A limitState is what there is of a limit in a window.
type limitState struct {
	account         string
	plan            *quota.Plan
	limit           quota.Limit
	window          quota.Window
	used, allowance int64
}

// isAt reports whether a threshold is reached.
func (s limitState) isAt(threshold int) bool { return s.used*100 >= int64(threshold)*s.allowance }

// note makes a step in the models, and notes what it crosses: a count of r in its windows or, if r is nil, a
// change in the running ones of the account itself.
func (c *crossingModel) note(account string, choice quota.PlanChoice, r *quota.Reservation, step func()) {
	if c == nil {
		step()
		return
	}
	before, counts, plan := c.states(account, choice, r), c.counts(account), c.plan(account, choice)
	step()
	if r == nil {
		c.noteFallen(account, counts, c.counts(account), c.plan(account, choice) != plan)
	}
	for _, after := range c.states(account, choice, r) {
		was := slices.IndexFunc(before, func(s limitState) bool { return s.account == after.account && s.limit.Name() == after.limit.Name() })
		crossed := 0
		for _, t := range c.notifyAt {
			if after.isAt(t) && (was < 0 || !before[was].isAt(t)) {
				crossed = t
			}
		}
		if crossed > 0 {
			c.add(after, crossed)
		}
	}
}

// states has the limits that a step is about.
func (c *crossingModel) states(account string, choice quota.PlanChoice, r *quota.Reservation) (states []limitState) {
	p := c.plan(account, choice)
	for i, l := range p.Limits() {
		s := limitState{account: account, plan: p, limit: l, window: c.calendar.WindowAt(l.Period, c.clock.Now())}
		isShared := p.Counters()[i].Shared
		if isShared {
			s.account = c.poolName()
		}
		if r == nil && isShared {
			continue
		}
		if r != nil {
			windows := r.Windows
			if isShared {
				windows = r.PoolWindows
			}
			j := slices.IndexFunc(windows, func(w quota.Window) bool { return w.Period == l.Period })
			if j < 0 || !windows[j].RetainedUntil(keep).After(c.clock.Now()) || l.Endpoint != "" && l.Endpoint != r.Endpoint {
				continue
			}
			s.window = windows[j]
		}
		m := c.models[s.account]
		used, granted := m.used[s.window.ID], m.granted[s.window.ID]
		if l.Quantity == quota.Units {
			used, granted = m.units[s.window.ID], m.grantedUnits[s.window.ID]
		}
		for endpoint, n := range used {
			if l.Endpoint == "" || l.Endpoint == endpoint {
				s.used += n
			}
		}
		s.allowance = l.Amount + granted[l.Endpoint]
		if l.Soft && slices.ContainsFunc(p.Limits(), func(hard quota.Limit) bool { return !hard.Soft && hard.Counter() == l.Counter() }) {
			s.allowance = l.Amount // a grant raises the hard one
		}
		states = append(states, s)
	}
	return states
}

func (c *crossingModel) plan(account string, choice quota.PlanChoice) *quota.Plan {
	return c.models[account].snapshot(choice, c.calendar, c.clock.Now()).Plan
}

// counts has the counts of an account in its running windows, of requests and of units.
func (c *crossingModel) counts(account string) map[string][2]map[string]int64 {
	counts := map[string][2]map[string]int64{}
	for _, period := range quota.Periods() {
		id := c.calendar.WindowAt(period, c.clock.Now()).ID
		counts[id] = [2]map[string]int64{maps.Clone(c.models[account].used[id]), maps.Clone(c.models[account].units[id])}
	}
	return counts
}

// noteFallen notes in which windows a count is lower than before or, if the plan is another one, in which there are
// counts.
func (c *crossingModel) noteFallen(account string, before, after map[string][2]map[string]int64, otherPlan bool) {
	for id := range before {
		fallen := false
		for i := range 2 {
			for endpoint, n := range before[id][i] {
				fallen = fallen || after[id][i][endpoint] < n || otherPlan && n > 0
			}
		}
		if fallen {
			if c.rearmed[account] == nil {
				c.rearmed[account] = map[string]int64{}
			}
			c.rearmed[account][id]++
		}
	}
}

// add adds a crossing, unless the same one waits.
func (c *crossingModel) add(s limitState, threshold int) {
	crossing := quota.Crossing{
		ID:      quota.CrossingID(s.account, s.limit.Name(), s.window.ID, threshold, s.allowance, c.rearmed[s.account][s.window.ID]),
		Account: s.account, At: c.clock.Now(), Plan: s.plan.Name(), Limit: s.limit.Name(), Unit: s.limit.Quantity.String(),
		Used: s.used, Allowance: s.allowance, Threshold: threshold, ResetsAt: s.window.End,
	}
	if s.limit.Period == quota.Ever {
		crossing.ResetsAt = time.Time{}
	}
	if !slices.ContainsFunc(c.waiting[s.account], func(w quota.Crossing) bool { return w.ID == crossing.ID }) {
		c.waiting[s.account] = append(c.waiting[s.account], crossing)
	}
}

// check compares the crossings of an account, and of its pool, with the rules.
func (c *crossingModel) check(t *rapid.T, account string) {
	t.Helper()
	if c == nil {
		return
	}
	c.checkOne(t, account)
	if pool := quota.PoolOf(account); pool != "" {
		c.checkOne(t, pool)
	}
}

func (c *crossingModel) checkOne(t *rapid.T, account string) {
	t.Helper()
	got, err := c.store.CrossingsOf(context.Background(), account)
	if err != nil {
		t.Fatal(err)
	}
	want := c.waiting[account]
	for i, g := range got {
		if i > 0 && g.At.Before(got[i-1].At) {
			t.Fatalf("crossing %d was recorded at %v, the one before it at %v", i, g.At, got[i-1].At)
		}
		j := slices.IndexFunc(want, func(w quota.Crossing) bool { return w.ID == g.ID })
		if j < 0 || len(got) != len(want) {
			break
		}
		w := want[j]
		if late := g.At.Sub(w.At); late < -time.Millisecond || late > time.Minute || !g.ResetsAt.Equal(w.ResetsAt) {
			t.Fatalf("%s was recorded at %v and resets at %v, the rules say %v and %v", crossingText(g), g.At, g.ResetsAt, w.At, w.ResetsAt)
		}
		w.At, w.ResetsAt = g.At, g.ResetsAt
		if g != w {
			t.Fatalf("the crossing is %+v, the rules say %+v", g, w)
		}
	}
	if g, w := crossingIDs(got), crossingIDs(want); !slices.Equal(g, w) {
		t.Fatalf("the crossings of %q are %q, the rules say %q", account, g, w)
	}
}

// crossingIDs shows crossings and their IDs, sorted.
func crossingIDs(crossings []quota.Crossing) (texts []string) {
	for _, c := range crossings {
		texts = append(texts, fmt.Sprint(crossingText(c), " ", c.ID))
	}
	slices.Sort(texts)
	return texts
}

// read compares the crossings of an account with the rules.
func (c *crossingModel) read(t *rapid.T) { c.check(t, c.drawAccount(t)) }

// end ends some of an account's crossings, and one that is not there.
func (c *crossingModel) end(t *rapid.T) {
	account := c.drawAccount(t)
	ids := []string{"msg_unknown"}
	c.waiting[account] = slices.DeleteFunc(c.waiting[account], func(w quota.Crossing) bool {
		ends := rapid.Bool().Draw(t, "ends")
		if ends {
			ids = append(ids, w.ID)
		}
		return ends
	})
	c.endIDs(t, account, ids)
}

func (c *crossingModel) endIDs(t *rapid.T, account string, ids []string) {
	t.Helper()
	if err := c.store.EndCrossings(context.Background(), account, ids); err != nil {
		t.Fatal(err)
	}
	c.check(t, account)
}

// endAll ends all crossings.
func (c *crossingModel) endAll(t *rapid.T) {
	t.Helper()
	if c == nil {
		return
	}
	for _, account := range slices.Sorted(maps.Keys(c.waiting)) {
		var ids []string
		for _, w := range c.waiting[account] {
			ids = append(ids, w.ID)
		}
		delete(c.waiting, account)
		if len(ids) > 0 {
			c.endIDs(t, account, ids)
		}
	}
}
