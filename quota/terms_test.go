package quota

import (
	"strings"
	"testing"
	"time"
)

func planWith(t *testing.T, o PlanOptions) *Plan {
	t.Helper()
	o.Name, o.WarnAt, o.Endpoints = "paid", 80, []string{"analyze"}
	p, err := NewPlan(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var november29 = time.Date(2026, time.November, 29, 12, 0, 0, 0, time.UTC)

// What becomes of the terms of an account that is seen under a plan.
func TestTermsFollow(t *testing.T) {
	c := NewCalendar(nil)
	claim, firstUse := PlanOptions{Anchor: ClaimAnchor}, PlanOptions{Anchor: FirstUseAnchor}
	counted, held, isNew := Activity{Windows: []string{"2026-11"}}, Activity{Held: true}, Activity{}
	for _, tc := range []struct {
		what     string
		before   string
		plan     PlanOptions
		claimed  Anchor
		activity Activity
		after    string
	}{
		{"a new account has the anchor at once", "", claim, NewAnchor(15, 0), isNew, "m=15 y=15"},
		{"a request that is held keeps its window", "", claim, NewAnchor(15, 0), held, "m=1,1796083200:15 y=1,1798761600:15"},
		{"a window with counts runs to its end", "", claim, NewAnchor(15, 0), counted, "m=1,1796083200:15 y=1,1798761600:15"},
		{"an outage has counted it by the anchor", "", claim, NewAnchor(15, 0), Activity{Windows: []string{"month-2026-11-15"}}, "m=15 y=15"},
		{"an anchor on the calendar's day is none", "", claim, NewAnchor(1, 0), counted, ""},
		{"an anchor that has not begun is replaced", "m=1,1796083200:15 y=1,1798761600:15", claim, NewAnchor(20, 0), counted, "m=1,1796083200:20 y=1,1798761600:20 t=1795953600"},
		{"and taken back", "m=1,1796083200:15 y=1,1798761600:15", claim, Anchor{}, counted, "t=1795953600"},
		{"another plan ends it", "m=15 y=15", PlanOptions{}, NewAnchor(15, 0), counted, "m=15,1797292800:1 y=15,1799971200:1 t=1795953600"},
		{"what an administrator has set stays", "m=20 y=20 f=20", claim, NewAnchor(15, 0), counted, "m=20 y=20 f=20"},
		{"the first use of a new account", "", firstUse, Anchor{}, isNew, "m=29 y=11-29 u=11-29?"},
		{"again on another day, if nothing was counted", "m=28 y=11-28 u=11-28?", firstUse, Anchor{}, isNew, "m=29 y=11-29 u=11-29?"},
		{"not while a request is held", "m=28 y=11-28 u=11-28?", firstUse, Anchor{}, held, "m=28 y=11-28 u=11-28?"},
		{"once something is counted it is sure", "m=28 y=11-28 u=11-28?", firstUse, Anchor{}, counted, "m=28 y=11-28 u=11-28"},
		{"an account that was counted before has it from its first count on", "", firstUse, Anchor{}, counted, ""},
		{"at that count", "", firstUse, Anchor{}, Activity{Windows: []string{"2026-11"}, Counting: true}, "m=1,1796083200:29 y=1,1798761600:11-29 u=11-29"},
		{"and keeps it", "u=11-20", firstUse, Anchor{}, Activity{Windows: []string{"2026-11"}, Counting: true}, "m=1,1796083200:20 y=1,1798761600:11-20 u=11-20"},
	} {
		before, err := ParseTerms(tc.before)
		if err != nil {
			t.Fatal(err)
		}
		p := planWith(t, tc.plan)
		plans := p.OnlyChoice()
		plans.Anchor = &tc.claimed
		after := before.Follow(p, plans, c, november29, tc.activity)
		want := normalTerms(t, tc.after)
		// Another plan ends it on 15 December, and on 15 January: a day alone begins the year in January.
		if after.String() != want {
			t.Errorf("%s: %q becomes %q, want %q", tc.what, tc.before, after, want)
		}
		if again := after.Follow(p, plans, c, november29, tc.activity); again.String() != after.String() {
			t.Errorf("%s: the second time it becomes %q", tc.what, again)
		}
		if before.Follows(p, plans, november29) && before.String() != after.String() {
			t.Errorf("%s: Follows says that nothing changes", tc.what)
		}
	}
}

// A pool has one anchor: what an administrator has set, or the first one that it was given. Members with
// other tokens and other plans do not move it.
func TestPoolsHaveOneAnchor(t *testing.T) {
	c := NewCalendar(nil)
	shared := []Limit{{Amount: 100, Period: Month, Shared: true}}
	byName := map[string]*Plan{}
	for name, mode := range map[string]AnchorMode{"calendar": CalendarAnchor, "claim": ClaimAnchor, "first_use": FirstUseAnchor} {
		byName[name] = planWith(t, PlanOptions{Limits: shared, Anchor: mode})
	}
	isNew, counted := Activity{}, Activity{Windows: []string{"2026-11"}}
	counting := Activity{Windows: []string{"2026-11"}, Counting: true}
	type step struct {
		plan     string
		claimed  int // 0: none
		activity Activity
		after    string
	}
	later := "m=1,1796083200:15 y=1,1798761600:15 g=15"
	for what, steps := range map[string][]step{
		"the first claim of a new pool holds at once": {
			{"claim", 15, isNew, "m=15 y=15 g=15"}, {"claim", 20, isNew, "m=15 y=15 g=15"}, {"claim", 1, counted, "m=15 y=15 g=15"},
			{"claim", 0, counted, "m=15 y=15 g=15"}, {"calendar", 20, counted, "m=15 y=15 g=15"}, {"first_use", 0, counting, "m=15 y=15 g=15"},
		},
		"day 1 is a claim": {
			{"claim", 1, isNew, "g=1"}, {"claim", 15, counted, "g=1"}, {"first_use", 15, counting, "g=1"},
		},
		"members who claim nothing give nothing": {
			{"claim", 0, isNew, ""}, {"calendar", 20, counted, ""}, {"claim", 15, counted, later}, {"claim", 0, counted, later}, {"claim", 20, counted, later},
		},
		"the first use": {
			{"first_use", 20, isNew, "m=29 y=11-29 u=11-29?"}, {"calendar", 0, Activity{Held: true}, "m=29 y=11-29 u=11-29?"},
			{"first_use", 20, Activity{Windows: []string{"month-2026-11-29"}, Counting: true}, "m=29 y=11-29 u=11-29"},
			{"claim", 15, counted, "m=29 y=11-29 u=11-29"}, {"calendar", 0, counted, "m=29 y=11-29 u=11-29"},
		},
		"a claim before anything is counted": {
			{"first_use", 20, isNew, "m=29 y=11-29 u=11-29?"}, {"claim", 15, isNew, "m=15 y=15 g=15 u=11-29?"}, {"first_use", 20, isNew, "m=15 y=15 g=15 u=11-29?"},
		},
	} {
		var terms Terms
		for i, st := range steps {
			p := byName[st.plan].ForScope(PoolScope)
			a := NewAnchor(max(1, st.claimed), 0)
			plans := PlanChoice{Claimed: byName[st.plan], ByName: byName, Scope: PoolScope, Anchor: &a, NoAnchor: st.claimed == 0}
			after := terms.Follow(p, plans, c, november29, st.activity)
			if got := after.String(); got != normalTerms(t, st.after) {
				t.Errorf("%s, step %d: %q, want %q", what, i, got, st.after)
			}
			if terms.Follows(p, plans, november29) && after.String() != terms.String() {
				t.Errorf("%s, step %d: Follows says that nothing changes", what, i)
			}
			if terms = after; i > 0 && steps[i-1].after == st.after && !terms.Follows(p, plans, november29) {
				t.Errorf("%s, step %d: the store is asked again", what, i)
			}
		}
	}
}

// An administrator moves the anchor of a pool. When that is cleared, or when no plan has anchors any more,
// nothing is left of the one that it was given.
func TestAnchorOfPoolEnds(t *testing.T) {
	c, counted := NewCalendar(nil), Activity{Windows: []string{"2026-11"}}
	shared := []Limit{{Amount: 100, Period: Month, Shared: true}}
	claim, calendar := planWith(t, PlanOptions{Limits: shared, Anchor: ClaimAnchor}), planWith(t, PlanOptions{Limits: shared})
	on := func(day int, p *Plan) (*Plan, PlanChoice) {
		a := NewAnchor(day, 0)
		return p.ForScope(PoolScope), PlanChoice{Claimed: p, Scope: PoolScope, Anchor: &a}
	}
	want := func(what string, terms Terms, want int) {
		t.Helper()
		if got := max(1, terms.Anchor().Day); got != want {
			t.Errorf("%s: the anchor is %d, want %d: %q", what, got, want, terms)
		}
	}
	follow := func(t Terms, day int, p *Plan) Terms {
		own, plans := on(day, p)
		return t.Follow(own, plans, c, november29, counted)
	}
	terms := follow(Terms{}, 15, claim)
	want("given", terms, 15)
	twenty := NewAnchor(20, 0)
	terms = terms.SetAnchor(&twenty, c, november29, counted)
	want("set", follow(terms, 15, claim), 20)
	want("cleared", terms.SetAnchor(nil, c, november29, counted), 20)
	want("given again", follow(terms.SetAnchor(nil, c, november29, counted), 10, claim), 10)
	back := follow(follow(Terms{}, 15, claim), 15, calendar)
	want("no plan has anchors", back, 1)
	want("a gateway with the configuration before, at once", follow(back, 15, claim), 1)
}

// Two tokens of a user, or two gateways while they reload, do not write the terms with every request.
func TestReplacedAnchorRests(t *testing.T) {
	c, p, counted := NewCalendar(nil), planWith(t, PlanOptions{Anchor: ClaimAnchor}), Activity{Windows: []string{"2026-11"}}
	terms, writes, now := Terms{}, 0, november29
	for i := range 1000 {
		a := NewAnchor(15+5*(i%2), 0)
		plans := p.OnlyChoice()
		plans.Anchor = &a
		if !terms.Follows(p, plans, now) {
			terms = terms.Follow(p, plans, c, now, counted)
			writes++
		}
		now = now.Add(100 * time.Millisecond)
	}
	if writes > 4 {
		t.Errorf("in 100 s, the terms are written %d times", writes)
	}
	if a := terms.Anchor(); a.Day != 15 && a.Day != 20 {
		t.Errorf("the anchor is %v", a)
	}
	if kept := terms.Prune(c, now.Add(time.Minute), time.Hour); !kept.changed.IsZero() {
		t.Errorf("a day later, %q is left", kept)
	}
}

// normalTerms writes the anchor of a first use as Terms do.
func normalTerms(t *testing.T, text string) string {
	t.Helper()
	terms, err := ParseTerms(text)
	if err != nil {
		t.Fatal(err)
	}
	return terms.String()
}

// What is left of a limit: what was carried or granted is used up first, and goes no further.
func TestLeftOver(t *testing.T) {
	w := Window{Period: Month, Start: november29, End: november29.AddDate(0, 1, 0)}
	half := w
	half.Nominal = 2 * w.End.Sub(w.Start)
	for _, c := range []struct {
		carry  int64
		before Count
		want   int64
	}{
		{2000, Count{Window: w}, 100},
		{30, Count{Window: w}, 30},
		{MaxAmount, Count{Window: w, Used: 90}, 10},
		{MaxAmount, Count{Window: w, Used: 90, Held: 5}, 5},
		{MaxAmount, Count{Window: w, Used: 100}, 0},
		{MaxAmount, Count{Window: w, Used: 500}, 0},
		{MaxAmount, Count{Window: w, Used: 20, Carried: 30}, 100},
		{MaxAmount, Count{Window: w, Used: 50, Carried: 30}, 80},
		{MaxAmount, Count{Window: w, Used: 50, Granted: 60}, 100},
		{MaxAmount, Count{Window: half, Used: 20}, 30},
	} {
		if got := (Limit{Amount: 100, Period: Month, Carry: c.carry}).leftOver(c.before); got != c.want {
			t.Errorf("carry %d after %+v: %d, want %d", c.carry, c.before, got, c.want)
		}
	}
}

// Carried amounts are found by window and limit, are due once, and are dropped when a later window of the
// limit is known and theirs is long over.
func TestTermsCarried(t *testing.T) {
	c := NewCalendar(nil)
	requests, units := Limit{Amount: 100, Period: Month, Carry: 20}, Limit{Amount: 500, Period: Month, Carry: 50, Quantity: Units}
	image := Limit{Amount: 10, Period: Month, Carry: 5, Endpoint: "analyze"}
	p := planWith(t, PlanOptions{Limits: []Limit{requests, units, image, {Amount: 1, Period: Day}}})
	carryOver := func(terms Terms, now time.Time, used int64) Terms {
		for _, i := range terms.CarryDue(p, c, now) {
			terms = terms.CarryOver(p.Limits()[i], Count{Window: c.WindowAt(Month, now.AddDate(0, -1, 0)), Used: used}, []string{"2026-11"}, c, now)
		}
		return terms
	}
	want := func(terms Terms, window string, amounts ...int64) {
		t.Helper()
		for i, l := range []Limit{requests, units, image} {
			if n, ok := terms.Carried(window, l); n != amounts[i] || !ok {
				t.Errorf("%s: %d, %v; want %d: %q", l.Name(), n, ok, amounts[i], terms)
			}
		}
	}
	if due := (Terms{}).CarryDue(p, c, november29); len(due) != 3 {
		t.Fatalf("due: %v", due)
	}
	november := carryOver(Terms{}, november29, 7) // by a plan that carries nothing
	want(november, "2026-11", 0, 0, 0)
	december := carryOver(november, november29.AddDate(0, 1, 0), 7)
	want(december, "2026-12", 20, 50, 3)
	again, err := ParseTerms(december.String())
	if err != nil || again.String() != december.String() {
		t.Fatalf("%q is read as %q, error %v", december, again, err)
	}
	if due := again.CarryDue(p, c, november29.AddDate(0, 1, 0)); len(due) != 0 {
		t.Errorf("due: %v", due)
	}
	keep := 400 * 24 * time.Hour
	if kept := again.Prune(c, november29.AddDate(0, 1, 0), keep); kept.String() != december.String() {
		t.Errorf("in December, %q is left", kept)
	}
	if kept := again.Prune(c, november29.AddDate(0, 3, 0), keep); strings.Contains(kept.String(), "2026-11") || !strings.Contains(kept.String(), "2026-12") {
		t.Errorf("in February, %q is left", kept)
	}
	if kept := again.Prune(c, november29.AddDate(3, 0, 0), keep); !kept.IsZero() {
		t.Errorf("three years later, %q is left", kept)
	}
}

// What moves on depends on the limits that the account was on before.
func TestCarryOver(t *testing.T) {
	c, now := NewCalendar(nil), november29.AddDate(0, 1, 0)
	small, big := Limit{Amount: 100, Period: Month, Carry: 30}, Limit{Amount: 10000, Period: Month, Carry: 2000}
	all := Limit{Amount: 100, Period: Month, Carry: MaxAmount}
	shared := func(l Limit) Limit { l.Shared = true; return l }
	for _, tc := range []struct {
		what    string
		before  string
		limit   Limit
		used    int64
		counted string
		carried int64
	}{
		{"never seen", "", big, 0, "", 0},
		{"never seen before today", "", big, 0, "2026-12-29 2026-12", 0},
		{"a request before that was not counted", "c=2026-11/:0,10000,2000", big, 0, "2026-12", 0},
		{"on a plan that carries nothing", "", big, 10, "2026-11", 0},
		{"on a plan that carries nothing, long after", "c=2026-08/:0,10000,2000", big, 10, "2026-11", 0},
		{"on a plan by the day", "c=2026-08/:0,10000,2000", big, 0, "2026-11-17", 0},
		{"on the same limit", "c=2026-11/:0,10000,2000", big, 9500, "2026-11", 500},
		{"on the same limit, with little used", "c=2026-11/:0,10000,2000", big, 10, "2026-11", 2000},
		{"idle in the window before", "c=2026-10/:7,10000,2000", big, 0, "2026-10", 2000},
		{"something was granted in the window before", "c=2026-10/:7,10000,2000", big, 0, "2026-10 2026-11", 2000},
		{"upgraded at the turn", "c=2026-11/:0,100,30", big, 90, "2026-11", 10},
		{"upgraded at the turn, with little used", "c=2026-11/:0,100,30", big, 10, "2026-11", 30},
		{"upgraded in the window", "c=2026-11/:0,10000,2000", big, 500, "2026-11", 2000},
		{"downgraded", "c=2026-11/:0,10000,2000", small, 500, "2026-11", 0},
		{"downgraded, with little used", "c=2026-11/:0,10000,2000", small, 90, "2026-11", 10},
		{"a greater carry than the limit before had", "c=2026-11/:0,100,30", all, 10, "2026-11", 30},
		{"another endpoint", "c=2026-11/analyze:0,10000,2000", big, 10, "2026-11", 0},
		{"units", "c=2026-11//u:0,10000,2000", big, 10, "2026-11", 0},
		{"of a pool, the greatest limit counts", "c=2026-11/:0,10000,2000", shared(small), 9990, "2026-11", 10},
		{"of a pool, at most what the own limit carries", "c=2026-11/:0,10000,2000", shared(small), 500, "2026-11", 30},
		{"of a pool, at most the own limit", "c=2026-11/:0,10000,2000", shared(all), 500, "2026-11", 100},
	} {
		terms, err := ParseTerms(tc.before)
		if err != nil {
			t.Fatal(err)
		}
		before := Count{Window: c.WindowAt(Month, november29), Used: tc.used}
		after := terms.CarryOver(tc.limit, before, strings.Fields(tc.counted), c, now)
		if n, ok := after.Carried("2026-12", tc.limit); n != tc.carried || !ok {
			t.Errorf("%s: %d, %v are carried, want %d: %q", tc.what, n, ok, tc.carried, after)
		}
		if again := after.CarryOver(tc.limit, Count{Window: before.Window}, nil, c, now); again.String() != after.String() {
			t.Errorf("%s: the second time, %q becomes %q", tc.what, after, again)
		}
	}
}

// Members of a pool with different plans, whoever comes first, neither carry less because of another's
// plan nor write the terms again and again.
func TestCarryOfPlansInOnePool(t *testing.T) {
	c := NewCalendar(nil)
	trial := planWith(t, PlanOptions{Limits: []Limit{{Amount: 100, Period: Month, Carry: 10, Shared: true}}}).ForScope(PoolScope)
	large := planWith(t, PlanOptions{Limits: []Limit{{Amount: 50000, Period: Month, Carry: 5000, Shared: true}}}).ForScope(PoolScope)
	daily := planWith(t, PlanOptions{Limits: []Limit{{Amount: 9, Period: Day, Carry: 5, Shared: true}}}).ForScope(PoolScope)
	for _, order := range [][]*Plan{{trial, large, daily}, {large, daily, trial}, {daily, trial, large}} {
		var terms Terms
		writes := 0
		for months := range 3 {
			now := november29.AddDate(0, months, 0)
			for range 10 {
				for _, p := range order {
					for _, i := range terms.CarryDue(p, c, now) {
						l := p.Limits()[i]
						terms = terms.CarryOver(l, Count{Window: terms.WindowBefore(c, l.Period, now), Used: 3000}, []string{"2026-11", "2026-12", "2027-01"}, c, now).Prune(c, now, time.Hour)
						writes++
					}
				}
			}
		}
		for p, want := range map[*Plan]int64{trial: 10, large: 5000} {
			if n, _ := terms.Carried("2027-01", p.Limits()[0]); n != want {
				t.Errorf("%d of %d are carried, want %d: %q", n, p.Limits()[0].Amount, want, terms)
			}
		}
		if writes > 9 {
			t.Errorf("the terms are written %d times in three months", writes)
		}
	}
}

// A window that begins with a change of anchor has its dates in the calendar's time zone, also when the
// terms come from the store.
func TestStoredTermsKeepTheTimeZone(t *testing.T) {
	calendar := NewCalendar(location(t, "Asia/Kathmandu"))
	now := instant(t, "2026-11-29")
	terms := Terms{}.withAnchor(NewAnchor(15, 0), calendar, now, Activity{Held: true})
	stored, err := ParseTerms(terms.String())
	if err != nil {
		t.Fatal(err)
	}
	for name, terms := range map[string]Terms{"new": terms, "stored": stored} {
		w := terms.WindowAt(calendar, Month, instant(t, "2026-12-05"))
		for what, got := range map[string]time.Time{"start": w.Start, "from": terms.AnchorFrom(calendar)} {
			if got := got.Format(time.RFC3339); got != "2026-12-01T00:00:00+05:45" {
				t.Errorf("%s terms %q: the %s is %s, want midnight of 1 December in Kathmandu", name, terms, what, got)
			}
		}
	}
}

func TestParseTermsRefuses(t *testing.T) {
	for _, text := range []string{"x=1", "m", "m=", "m=0", "m=32", "m=1,15", "m=1,5:15,4:16", "m=3:1", "y=13-01", "f=", "u=?", "c=2026-11/", "c=2026-11/:1", "c=2026-11/:-1,1,1", "c=2026-11/:x,1,1", "c=2026-11/:1,1,1,1", "c=2026-11/:1,1,", "g=0", "t=x"} {
		if terms, err := ParseTerms(text); err == nil {
			t.Errorf("%q is read as %q", text, terms)
		}
	}
}

// However short counts are kept, pruning changes neither the running windows nor those before them.
func TestPruneKeepsRunningWindows(t *testing.T) {
	c := NewCalendar(nil)
	terms := Terms{}.withAnchor(NewAnchor(20, 0), c, november29, Activity{Windows: []string{"2026-11"}})
	for days := range 800 {
		now := november29.AddDate(0, 0, days)
		kept := terms.Prune(c, now, 24*time.Hour)
		for _, period := range []Period{Month, Year} {
			for _, at := range []time.Time{now, terms.WindowBefore(c, period, now).Start} {
				if got, want := kept.WindowAt(c, period, at), terms.WindowAt(c, period, at); got.ID != want.ID || got.Nominal != want.Nominal {
					t.Fatalf("at %v, pruned at %v: %+v, want %+v", at, now, got, want)
				}
			}
		}
	}
}

// What was carried under another plan does not count for a limit that does not carry, or carries
// less.
func TestCarriedIsBoundByLimit(t *testing.T) {
	l := Limit{Amount: 100, Period: Month, Carry: 50}
	terms, err := ParseTerms("c=2026-11/:40,100,50")
	if err != nil {
		t.Fatal(err)
	}
	for carry, want := range map[int64]int64{50: 40, 30: 30, 0: 0} {
		l.Carry = carry
		if n, _ := terms.Carried("2026-11", l); n != want {
			t.Errorf("carry %d: %d were carried, want %d", carry, n, want)
		}
	}
}
