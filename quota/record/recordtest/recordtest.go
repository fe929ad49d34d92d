// Package recordtest is the suite of [record.Store]: random histories of calls on one store are moved to another, which must then
// answer every call as the first one does, also when time has gone on.
package recordtest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/record"
)

// A Store is one that can be moved.
type Store interface {
	quota.Store
	quota.Crossings
	quota.Bills
	record.Store
}

// Setup is what every store of the suite keeps.
const (
	HistoryDays  = 60
	BillingHours = 100
	Keep         = 400 * 24 * time.Hour
)

// Open opens a store that works by clock and has no account yet. It registers what must be closed with t.Cleanup, and
// keeps what Setup says.
type Open func(t *rapid.T, clock *quotatest.Clock, calendar *quota.Calendar) Store

// Run makes random calls on a store that from opens, and moves all to one that to opens, back to another one that from opens, and there
// again. All four answer the same. Then time goes on, and more calls are made: the two stores of each kind still answer the same. Those of
// different kinds need not, since they may write the terms of an account at different steps of a request.
func Run(t *testing.T, from, to Open) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	calendar := quota.NewCalendar(berlin)
	rapid.Check(t, func(t *rapid.T) {
		clock := quotatest.NewClock(time.Date(2026, time.January, 29, 12, 0, 32, 0, time.UTC))
		w := &world{clock: clock, calendar: calendar, plans: plans()}
		stores := []Store{from(t, clock, calendar), to(t, clock, calendar), from(t, clock, calendar), to(t, clock, calendar)}
		for range rapid.IntRange(5, 60).Draw(t, "calls") {
			w.do(t, w.drawCall(t), stores[0])
		}
		for i := range 3 {
			w.move(t, stores[i], stores[i+1])
		}
		w.wantSame(t, true, stores...)
		w.wantSameDecisions(t, stores...)
		for range rapid.IntRange(0, 30).Draw(t, "calls after the move") {
			c := w.drawCall(t)
			w.do(t, c, stores[0], stores[2])
			w.do(t, c, stores[1], stores[3])
		}
		w.wantSame(t, false, stores[0], stores[2])
		w.wantSame(t, false, stores[1], stores[3])
	})
}

// accounts are of all scopes; the last one is a pool, which makes no requests.
var accounts = []string{"u-1", "ü 2", quota.MemberAccount("acme", "m-1"), quota.MemberAccount("acme", "m-2"), quota.PoolAccount("acme")}

var endpoints = []string{"analyze", "image-analysis"}

// plans use every feature that a store keeps something for.
func plans() (all []*quota.Plan) {
	for _, o := range []quota.PlanOptions{
		{Name: "free", Limits: []quota.Limit{{Amount: 30, Period: quota.Month}, {Amount: 3, Period: quota.Day, Endpoint: "analyze"}, {Amount: 40, Period: quota.Ever, Quantity: quota.Units}}, NotifyAt: []int{50, 80, 100}},
		{Name: "saver", Anchor: quota.ClaimAnchor, Limits: []quota.Limit{{Amount: 12, Period: quota.Month, Carry: 8}, {Amount: 6, Period: quota.Day}}},
		{Name: "first", Anchor: quota.FirstUseAnchor, Limits: []quota.Limit{{Amount: 10, Period: quota.Month, Carry: 5}, {Amount: 90, Period: quota.Year, Quantity: quota.Units}, {Amount: 5, Period: quota.Hour}}},
		{Name: "team", Limits: []quota.Limit{{Amount: 8, Period: quota.Month}, {Amount: 20, Period: quota.Month, Shared: true, Carry: 9}, {Amount: 60, Period: quota.Week, Shared: true, Quantity: quota.Units}}, NotifyAt: []int{50, 100}},
	} {
		o.Endpoints, o.WarnAt, o.UnitName = endpoints, 80, "credits"
		o.Costs = map[string]quota.Cost{"image-analysis": {Min: 0, Max: 4}}
		p, err := quota.NewPlan(o)
		if err != nil {
			panic(err)
		}
		all = append(all, p)
	}
	return all
}

// A world is what the stores of one run share.
type world struct {
	clock    *quotatest.Clock
	calendar *quota.Calendar
	plans    []*quota.Plan
	changes  []drawnChange // that had an ID
	advanced time.Duration
}

type drawnChange struct {
	account string
	change  quota.Change
}

// choice returns the plans that apply to an account whose token claims a plan and a day.
func (w *world) choice(account string, plan, day int) quota.PlanChoice {
	anchor := quota.NewAnchor(max(1, day), 0)
	c := quota.PlanChoice{Claimed: w.plans[plan], ByName: map[string]*quota.Plan{}, Scope: quota.ScopeOf(account), Terms: true, Anchor: &anchor, NoAnchor: day == 0}
	for _, p := range w.plans {
		c.ByName[p.Name()] = p
	}
	return c
}

// A call is made on stores that must all answer the same.
type call func(s Store) (answer string, err error)

// drawCall draws a call. Requests are settled in the same call: nothing is held when accounts are moved.
func (w *world) drawCall(t *rapid.T) call {
	account := rapid.SampledFrom(accounts).Draw(t, "account")
	choice := w.choice(account, rapid.IntRange(0, len(w.plans)-1).Draw(t, "plan"), rapid.SampledFrom([]int{0, 1, 15, 31}).Draw(t, "day"))
	kind := rapid.IntRange(0, 13).Draw(t, "kind")
	switch {
	case kind >= 12:
		hours := time.Duration(rapid.SampledFrom([]int{1, 1, 9, 26, 26, 24*7 + 5, 24 * 20}).Draw(t, "hours")) * time.Hour
		if w.advanced += hours; w.advanced < 150*24*time.Hour {
			w.clock.Advance(hours)
		}
		return func(Store) (string, error) { return "", nil }
	case kind == 11:
		return w.drawHandover(t, account)
	case kind >= 7 || quota.ScopeOf(account) == quota.PoolScope:
		return w.drawChange(t, account, choice)
	}
	r := quota.Request{ID: quota.NewID(), User: account, Endpoint: rapid.SampledFrom(endpoints).Draw(t, "endpoint"), Plans: choice, Lease: time.Minute}
	if r.Endpoint == "image-analysis" {
		r.Units = 4
	}
	unused, rest := int64(0), int64(0)
	if r.Units > 0 {
		unused = rapid.Int64Range(0, 4).Draw(t, "unused")
		rest = rapid.Int64Range(0, unused).Draw(t, "rest")
	}
	release := rapid.IntRange(0, 5).Draw(t, "release") == 0
	return func(s Store) (string, error) {
		d, err := s.Reserve(context.Background(), r)
		if err != nil || !d.Admitted {
			return fmt.Sprint("refused ", show(d.Snapshot)), err
		}
		own := d.Reservation
		own.Unused, own.Rest, own.RestCharged = unused, rest, rest/2
		if release {
			_, err = s.Release(context.Background(), &own)
		} else if _, err = s.Commit(context.Background(), &own); err == nil && own.RestUnits() > 0 {
			_, err = s.CommitRest(context.Background(), &own)
		}
		if err != nil {
			return "", err
		}
		snapshot, err := s.Read(context.Background(), account, choice) // stores may have other terms in the snapshot of a settlement
		return "admitted " + show(snapshot), err
	}
}

// drawChange draws a change of an administrator. Some have an ID, and some repeat one that was made before.
func (w *world) drawChange(t *rapid.T, account string, choice quota.PlanChoice) call {
	now := w.clock.Now()
	all := []quota.Change{
		{Action: quota.ActionGrant, Requests: 3, Period: quota.Month},
		{Action: quota.ActionGrant, Requests: 2, Period: quota.Day, Endpoint: "analyze"},
		{Action: quota.ActionGrant, Units: 7, Period: quota.Ever},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 5}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"analyze": 2, "image-analysis": 1}, CountUnits: map[string]int64{"image-analysis": 3}},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 0, "image-analysis": 0}},
		{Action: quota.ActionReset},
		{Action: quota.ActionSetPlan, Plan: "team"},
		{Action: quota.ActionSetPlan, Plan: "saver", Until: now.Add(40 * 24 * time.Hour).Truncate(time.Millisecond)},
		{Action: quota.ActionClearPlan},
		{Action: quota.ActionSetAnchor, Anchor: "15"},
		{Action: quota.ActionClearAnchor},
	}
	c := rapid.SampledFrom(all).Draw(t, "change")
	c.By, c.Reason = "127.0.0.1", "why \"not\""
	switch {
	case len(w.changes) > 0 && rapid.IntRange(0, 4).Draw(t, "repeat") == 0:
		known := rapid.SampledFrom(w.changes).Draw(t, "known")
		account, c = known.account, known.change
	case rapid.Bool().Draw(t, "with an ID"):
		c.ID = fmt.Sprint("id-", len(w.changes))
		w.changes = append(w.changes, drawnChange{account, c})
	}
	choice.Scope, choice.Anchor, choice.NoAnchor = quota.ScopeOf(account), nil, false // an administrator has no token
	return func(s Store) (string, error) {
		snapshot, err := s.ApplyChange(context.Background(), account, choice, c)
		if quota.StoreResponded(err) && err != nil {
			return err.Error(), nil
		}
		return show(snapshot), err
	}
}

// drawHandover draws that bills are made, or that what was handed over is ended.
func (w *world) drawHandover(t *rapid.T, account string) call {
	before := quota.BillHourAt(w.clock.Now())
	switch rapid.SampledFrom([]string{"make bills", "end bills", "end crossings"}).Draw(t, "handover") {
	case "end crossings":
		return func(s Store) (string, error) {
			crossings, err := s.CrossingsOf(context.Background(), account)
			if err == nil && len(crossings) > 0 {
				err = s.EndCrossings(context.Background(), account, []string{crossings[0].ID})
			}
			return showCrossings(crossings), err
		}
	case "end bills":
		return func(s Store) (string, error) {
			ended := false
			text, err := w.scanBills(s, quota.BillQuery{Before: before}, func(b quota.AccountBills) error {
				if ended = !ended; !ended {
					return nil
				}
				return s.EndBills(context.Background(), b.Account, b.Bills[:1])
			})
			return text, err
		}
	}
	return func(s Store) (string, error) { return w.scanBills(s, quota.BillQuery{Before: before}, nil) }
}

// scanBills scans bills, and calls visit for each account in the order of their names; nil: for none. When the last revision may be forgotten,
// it does not matter: stores remember it for weeks, and not for equally long.
func (w *world) scanBills(s Store, q quota.BillQuery, visit func(quota.AccountBills) error) (string, error) {
	forgets := w.advanced > 30*24*time.Hour
	var found []quota.AccountBills
	err := s.ScanBills(context.Background(), q, func(b quota.AccountBills) error { found = append(found, b); return nil })
	slices.SortFunc(found, func(a, b quota.AccountBills) int { return strings.Compare(a.Account, b.Account) })
	for _, b := range found {
		slices.SortFunc(b.Bills, func(x, y quota.Bill) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
		if err == nil && visit != nil {
			err = visit(b)
		}
	}
	text := ""
	for _, b := range found {
		text += b.Account
		for _, bill := range b.Bills {
			if forgets {
				bill.Revision = 0
			}
			text += fmt.Sprintf(" %+v", bill)
		}
		text += "\n"
	}
	return text, err
}

// do makes a call on stores, which must answer the same.
func (w *world) do(t *rapid.T, c call, stores ...Store) {
	var first string
	for i, s := range stores {
		answer, err := c(s)
		if err != nil {
			t.Fatalf("store %d: %v", i, err)
		}
		if i == 0 {
			first = answer
		} else if answer != first {
			t.Fatalf("store %d answers\n%s\nand the first one\n%s", i, answer, first)
		}
	}
}

// move moves all accounts, twice, and compares them.
func (w *world) move(t *rapid.T, from, to Store) {
	m := record.Move{From: from, To: to, View: record.View{Calendar: w.calendar, Keep: Keep, HistoryDays: HistoryDays, BillingHours: BillingHours}}
	for range 2 {
		if _, err := m.Copy(context.Background(), true); err != nil {
			t.Fatal(err)
		}
	}
	_, err := m.Compare(context.Background(), func(d record.Difference) { t.Errorf("after the move, %q differs: %s", d.Name, d.What) })
	if err != nil {
		t.Fatal(err)
	}
}

// wantSameDecisions checks that the next request of each account is decided in the same way. It is given back.
func (w *world) wantSameDecisions(t *rapid.T, stores ...Store) {
	for _, account := range accounts {
		for plan := range w.plans {
			if quota.ScopeOf(account) == quota.PoolScope {
				continue
			}
			r := quota.Request{ID: quota.NewID(), User: account, Endpoint: "image-analysis", Units: 4, Plans: w.choice(account, plan, 15), Lease: time.Minute}
			w.do(t, func(s Store) (string, error) {
				d, err := s.Reserve(context.Background(), r)
				if err == nil && d.Admitted {
					_, err = s.Release(context.Background(), &d.Reservation)
				}
				return fmt.Sprint(d.Admitted, " ", show(d.Snapshot)), err
			}, stores...)
		}
	}
}

// wantSame compares what stores answer to everything that can be read. atOnce: nothing has happened since the move.
func (w *world) wantSame(t *rapid.T, atOnce bool, stores ...Store) {
	ctx := context.Background()
	for _, account := range accounts {
		for plan := range w.plans {
			choice := w.choice(account, plan, 15)
			w.do(t, func(s Store) (string, error) {
				snapshot, err := s.Read(ctx, account, choice)
				return show(snapshot), err
			}, stores...)
			for _, days := range []int{1, 20, 31, 61, 200} {
				at := w.clock.Now().AddDate(0, 0, -days)
				w.do(t, func(s Store) (string, error) {
					snapshot, err := s.ReadAt(ctx, account, choice, at)
					return show(w.retained(snapshot)), err
				}, stores...)
			}
		}
		w.do(t, func(s Store) (string, error) {
			entries, err := s.AuditLog(ctx, account)
			text := ""
			for _, e := range entries {
				if !atOnce {
					e.At = time.Time{} // of the entries that were made since, clocks may differ by milliseconds
				}
				text += fmt.Sprintf("%v %+v\n", e.At.UnixMilli(), e.Change)
			}
			return text, err
		}, stores...)
		w.do(t, func(s Store) (string, error) {
			crossings, err := s.CrossingsOf(ctx, account)
			return showCrossings(crossings), err
		}, stores...)
		if quota.ScopeOf(account) != quota.PoolScope {
			w.do(t, func(s Store) (string, error) {
				h, err := s.History(ctx, account, HistoryDays)
				return fmt.Sprint(h.Days), err
			}, stores...)
		}
		if atOnce { // stores learn of it at different steps of a request
			w.do(t, func(s Store) (string, error) { return s.ClaimedPlan(ctx, account) }, stores...)
		}
	}
	for _, query := range []quota.WindowQuery{{Period: quota.Month, At: w.clock.Now()}, {Period: quota.Month, At: w.clock.Now().AddDate(0, -1, 0), Beginning: true}, {Period: quota.Day, At: w.clock.Now()}} {
		w.do(t, func(s Store) (string, error) {
			var lines []string
			err := s.ScanUsers(ctx, query, func(u quota.UserUsage) error {
				if !atOnce {
					u.ClaimedPlan = ""
				}
				lines = append(lines, fmt.Sprintf("%s %s %s %q %v %v %v", u.Org, u.User, u.Window.ID, u.ClaimedPlan, u.Override, u.Endpoints, u.Extra))
				return nil
			})
			slices.Sort(lines)
			return strings.Join(lines, "\n"), err
		}, stores...)
	}
	w.do(t, func(s Store) (string, error) {
		return w.scanBills(s, quota.BillQuery{Before: quota.BillHourAt(w.clock.Now()) + 1, DryRun: true}, nil)
	}, stores...)
	for _, s := range stores[1:] {
		if atOnce {
			w.wantClaimed(t, s)
		}
	}
}

// retained leaves out what need not be there any more: stores delete it some time later.
func (w *world) retained(s quota.Snapshot) quota.Snapshot {
	for i := range s.Limits {
		if !w.clock.Now().Before(s.Limits[i].Window.RetainedUntil(Keep)) {
			s.Limits[i] = quota.Count{Window: s.Limits[i].Window}
		}
	}
	return s
}

// wantClaimed checks that all accounts with crossings are claimed.
func (w *world) wantClaimed(t *rapid.T, s Store) {
	claims, err := s.ClaimCrossings(context.Background(), 2*len(accounts))
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range accounts {
		crossings, err := s.CrossingsOf(context.Background(), account)
		if err != nil {
			t.Fatal(err)
		}
		isClaimed := slices.ContainsFunc(claims.Claims, func(c quota.CrossingClaim) bool { return c.Account == account })
		if len(crossings) > 0 && !isClaimed {
			t.Errorf("%q has %d crossings that nobody can claim", account, len(crossings))
		}
	}
}

// show shows a snapshot without its time.
func show(s quota.Snapshot) string {
	if s.Plan == nil {
		return "none"
	}
	text := fmt.Sprintf("%s by %v on %q", s.Plan.Name(), s.Override, showTerms(s.Terms))
	for _, c := range append(slices.Clone(s.Limits), s.Total) {
		text += fmt.Sprintf("; %s %d+%d granted %d carried %d until %v", c.Window.ID, c.Used, c.Held, c.Granted, c.Carried, c.Window.End.Unix())
	}
	text += fmt.Sprint("; ", s.Endpoints, s.EndpointUnits)
	if s.Pool != nil {
		text += fmt.Sprintf("; pool by %v", s.Pool.Override)
	}
	return text
}

// showTerms shows terms without the second of a change, since clocks may differ by some milliseconds, and without the mark of a first use
// that nothing is counted of yet: stores take it away at different steps.
func showTerms(t quota.Terms) string { return notShown.ReplaceAllString(t.String(), "$1") }

var notShown = regexp.MustCompile(`\b(t=)\d+|\?`)

// showCrossings shows crossings without their times.
func showCrossings(crossings []quota.Crossing) (text string) {
	for _, c := range crossings {
		text += fmt.Sprintf("%s %s %s %s %d/%d %d %v\n", c.ID, c.Plan, c.Limit, c.Unit, c.Used, c.Allowance, c.Threshold, c.ResetsAt.Unix())
	}
	return text
}
