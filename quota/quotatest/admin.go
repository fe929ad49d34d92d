package quotatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// adminTests are about what an administrator does.
var adminTests = map[string]func(*testing.T, *harness){
	"a grant lets exactly so many more pass":   testGrant,
	"a grant raises one limit in one window":   testGrantRaisesOneLimit,
	"a grant has a limit to raise":             testGrantWithoutLimit,
	"a reset leaves holds, grants and history": testReset,
	"a reset among requests":                   testResetAmongRequests,
	"an override decides on the plan":          testOverride,
	"an override changes under a request":      testOverrideDuringRequest,
	"counts are set":                           testSetCounts,
	"a change with an id is made once":         testChangeIDAppliesOnce,
	"ids are bounded":                          testChangeIDsAreBounded,
	"the audit list says what was done":        testAuditLog,
	"a change that is wrong changes nothing":   testInvalidChanges,
	"who watches is told of changes":           testWatchChanges,
	"past windows can be read":                 testReadAt,
	"the plan of the token is remembered":      testClaimedPlan,
	"all users of a window are found":          testScanUsers,
}

func (b *harness) applyChange(user string, p *quota.Plan, c quota.Change) quota.Snapshot {
	b.t.Helper()
	s, err := b.store.ApplyChange(context.Background(), user, p.OnlyChoice(), c)
	if err != nil {
		b.t.Fatalf("Change %+v: %v", c, err)
	}
	return s
}

func (b *harness) rejectChange(user string, p *quota.Plan, c quota.Change, want error) {
	b.t.Helper()
	if _, err := b.store.ApplyChange(context.Background(), user, p.OnlyChoice(), c); !errors.Is(err, want) {
		b.t.Errorf("Change %+v: error %v, want %v", c, err, want)
	}
}

func (b *harness) auditLog(user string) []quota.AuditEntry {
	b.t.Helper()
	entries, err := b.store.AuditLog(context.Background(), user)
	if err != nil {
		b.t.Fatalf("Audit: %v", err)
	}
	return entries
}

func testGrant(t *testing.T, b *harness) {
	b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 100}})
	b.refuse("u", "analyze", hundredAMonth)
	s := b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionGrant, Requests: 7})
	b.wantSnapshot(s, "100+0 100+0/7 [100 0 0]")
	if u := s.Usage("u"); *u.Limit != 107 || *u.Remaining != 7 || !u.Allowed || u.Limits[0].Limit != 107 {
		t.Errorf("limit %d, remaining %d, allowed %v", *u.Limit, *u.Remaining, u.Allowed)
	}
	if n := b.reserveConcurrently(50, func(r quota.Reservation) { b.commit(r) }); n != 7 {
		t.Errorf("%d of 50 were admitted after a grant of 7", n)
	}
	b.wantSnapshot(b.refuse("u", "analyze", hundredAMonth), "107+0 107+0/7 [107 0 0]")
	// Grants add up, and do not outlive their window.
	b.wantSnapshot(b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionGrant, Requests: 1, Period: quota.Month}), "107+0 107+0/8 [107 0 0]")
	november := b.clock.Now()
	b.clock.Advance(20 * 24 * time.Hour)
	b.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	if s, err := b.store.ReadAt(context.Background(), "u", hundredAMonth.OnlyChoice(), november); err != nil {
		t.Error(err)
	} else {
		b.wantSnapshot(s, "107+0 107+0/8 [107 0 0]")
	}
}

func testGrantRaisesOneLimit(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 3, Period: quota.Month}, quota.Limit{Requests: 1, Period: quota.Day},
		quota.Limit{Requests: 1, Period: quota.Month, Endpoint: "report"})
	b.use(1, "u", "report", p)
	b.refuse("u", "report", p)
	b.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Day})
	b.wantSnapshot(b.refuse("u", "report", p), "1+0 1+0 1+0/5 1+0 [0 0 1]")
	b.wantSnapshot(b.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 1, Period: quota.Month, Endpoint: "report"}),
		"1+0 1+0 1+0/5 1+0/1 [0 0 1]")
	b.use(1, "u", "report", p)
	b.refuse("u", "report", p)
	b.use(1, "u", "analyze", p)
	b.refuse("u", "analyze", p) // by the month, which was not raised
	// It is the limit's, whatever the plan.
	q := NewPlan("q", quota.Limit{Requests: 3, Period: quota.Week}, quota.Limit{Requests: 2, Period: quota.Month, Endpoint: "report"})
	b.wantState("u", q, "0+0 0+0 2+0/1 [0 0 0]")
	b.wantState("v", p, "0+0 0+0 0+0 0+0 [0 0 0]")
	b.clock.Advance(24 * time.Hour)
	b.wantState("u", p, "3+0 3+0 0+0 2+0/1 [1 0 2]")
}

func testGrantWithoutLimit(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 3, Period: quota.Month, Endpoint: "report"})
	b.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5}, quota.ErrNoSuchLimit)
	b.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Month}, quota.ErrNoSuchLimit)
	b.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Day, Endpoint: "report"}, quota.ErrNoSuchLimit)
	b.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Month, Endpoint: "analyze"}, quota.ErrNoSuchLimit)
	most := quota.Change{Action: quota.ActionGrant, Requests: quota.MaxRequests, Period: quota.Month, Endpoint: "report"}
	b.applyChange("u", p, most)
	most.Requests = 1
	b.rejectChange("u", p, most, quota.ErrTooLarge)
	b.wantState("u", p, fmt.Sprintf("0+0 0+0/%d [0 0 0]", int64(quota.MaxRequests)))
	if n := len(b.auditLog("u")); n != 1 {
		t.Errorf("%d entries in the audit list after one change, want 1", n)
	}
}

// allKinds has a limit in every kind of window.
func allPeriodsPlan(requests int64) *quota.Plan {
	var limits []quota.Limit
	for per := quota.Minute; per <= quota.Year; per++ {
		limits = append(limits, quota.Limit{Requests: requests, Period: per})
	}
	return NewPlan("kinds", limits...)
}

func testReset(t *testing.T, b *harness) {
	p := allPeriodsPlan(10)
	b.applyChange("u", p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"removed": 2}})
	b.use(2, "u", "analyze", p)
	b.use(1, "v", "analyze", p)
	yesterday := b.clock.Now()
	b.clock.Advance(24 * time.Hour)
	b.use(3, "u", "analyze", p)
	held := b.admit("u", "report", p)
	b.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 4, Period: quota.Day})
	// Of the period, the minute, and of minute, hour, day, week, month, year.
	b.wantState("u", p, "3+1 3+1 3+1 3+1/4 5+1 7+1 5+1 [3 0 0]")
	b.wantSnapshot(b.applyChange("u", p, quota.Change{Action: quota.ActionReset}), "0+1 0+1 0+1 0+1/4 0+1 0+1 0+1 [0 0 0]")
	b.wantSnapshot(b.applyChange("u", p, quota.Change{Action: quota.ActionReset}), "0+1 0+1 0+1 0+1/4 0+1 0+1 0+1 [0 0 0]")
	b.wantSnapshot(b.commit(held), "1+0 1+0 1+0 1+0/4 1+0 1+0 1+0 [0 0 1]")
	daily := NewPlan("daily", quota.Limit{Requests: 5, Period: quota.Day})
	if s, err := b.store.ReadAt(context.Background(), "u", daily.OnlyChoice(), yesterday); err != nil {
		t.Error(err)
	} else {
		b.wantSnapshot(s, "2+0 2+0 [2 0 0]")
	}
	b.wantState("v", p, "0+0 0+0 0+0 0+0 1+0 1+0 1+0 [0 0 0]")
}

// Exactly what is committed after the reset is counted; what was held stays held.
func testResetAmongRequests(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 1000, Period: quota.Month})
	for range 3 {
		b.admit("u", "analyze", p)
	}
	var phase atomic.Int32 // 1: the reset has begun, 2: it is done
	var surely, perhaps atomic.Int64
	var wait sync.WaitGroup
	var committed atomic.Int64
	half := make(chan struct{})
	for range 100 {
		wait.Go(func() {
			r := b.admitConcurrently("u", p)
			before := phase.Load()
			if _, err := b.store.Commit(context.Background(), &r); err != nil {
				b.t.Errorf("Commit: %v", err)
			}
			if before == 2 {
				surely.Add(1)
			}
			if phase.Load() > 0 {
				perhaps.Add(1)
			}
			if committed.Add(1) == 50 {
				close(half)
			}
		})
	}
	<-half
	phase.Store(1)
	_, err := b.store.ApplyChange(context.Background(), "u", p.OnlyChoice(), quota.Change{Action: quota.ActionReset})
	phase.Store(2)
	if err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	s, err := b.store.Read(context.Background(), "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Total.Used; n < surely.Load() || n > perhaps.Load() || s.Total.Held != 3 || s.Limits[0] != s.Total || s.Endpoints[0] != n {
		t.Errorf("state is %s; %d were committed after the reset, %d after or during it, 3 are held", numbers(s), surely.Load(), perhaps.Load())
	}
	used := s.Total.Used
	b.use(2, "u", "analyze", p)
	b.wantState("u", p, fmt.Sprintf("%d+3 %d+3 [%d 0 0]", used+2, used+2, used+2))
}

// admit2 is admit for a goroutine of a test.
func (b *harness) admitConcurrently(user string, p *quota.Plan) quota.Reservation {
	d, err := b.store.Reserve(context.Background(), request(user, "analyze", p))
	if err != nil || !d.Admitted {
		b.t.Errorf("admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

func testOverride(t *testing.T, b *harness) {
	small, large := NewPlan("small", quota.Limit{Requests: 1, Period: quota.Month}), NewPlan("large", quota.Limit{Requests: 3, Period: quota.Month}, quota.Limit{Requests: 2, Period: quota.Day})
	terms := quota.PlanChoice{Claimed: small, ByName: map[string]*quota.Plan{"small": small, "large": large}}
	try := func(admitted bool, plan *quota.Plan) {
		t.Helper()
		for range 4 { // on every gateway
			r := request("u", "analyze", small)
			r.Plans = terms
			d := b.reserve(r)
			if d.Admitted != admitted || d.Reservation.Plan != plan || d.Snapshot.Plan != plan {
				t.Errorf("admitted %v by %s, snapshot by %s; want %v, %s", d.Admitted, d.Reservation.Plan.Name(), d.Snapshot.Plan.Name(), admitted, plan.Name())
			}
			if d.Admitted {
				if s := b.release(d.Reservation); s.Plan != plan {
					t.Errorf("released by the plan %s, want %s", s.Plan.Name(), plan.Name())
				}
			}
			if s, err := b.store.Read(context.Background(), "u", terms); err != nil || s.Plan != plan {
				t.Errorf("read by the plan %s (error %v), want %s", s.Plan.Name(), err, plan.Name())
			}
		}
	}
	set := func(c quota.Change) quota.Snapshot {
		t.Helper()
		s, err := b.store.ApplyChange(context.Background(), "u", terms, c)
		if err != nil {
			t.Fatalf("Change %+v: %v", c, err)
		}
		return s
	}
	b.use(1, "u", "analyze", small)
	try(false, small)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"}); s.Plan != large || s.Override != (quota.Override{Plan: "large"}) {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	try(true, large)
	if s, _ := b.store.Read(context.Background(), "v", terms); s.Plan != small || s.Override != (quota.Override{}) {
		t.Errorf("another user has the plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	// A grant goes by the plan that applies.
	b.wantSnapshot(set(quota.Change{Action: quota.ActionGrant, Requests: 2, Period: quota.Day}), "1+0 1+0 0+0/2 [1 0 0]") // nothing was counted by the day before
	// One that is not in the configuration any more leaves the claim.
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "gone"}); s.Plan != small || s.Override.Plan != "gone" {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	try(false, small)
	// With an end, by the store's clock.
	until := b.clock.Now().Add(time.Hour)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: until}); s.Plan != large || !s.Override.Until.Equal(until) {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	b.clock.Advance(time.Hour - 10*time.Second)
	try(true, large)
	b.clock.Advance(20 * time.Second)
	try(false, small)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: b.clock.Now().Add(-time.Minute)}); s.Plan != small {
		t.Errorf("an end that has passed: plan %s", s.Plan.Name())
	}
	// Without an end it stays when all else is forgotten.
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"})
	b.clock.Advance(3 * 366 * 24 * time.Hour)
	try(true, large)
	set(quota.Change{Action: quota.ActionClearPlan})
	try(true, small)
	b.use(1, "u", "analyze", small)
	try(false, small)
	set(quota.Change{Action: quota.ActionClearPlan})
	try(false, small)
}

// A request that was admitted by one plan counts, whatever the plan is then.
func testOverrideDuringRequest(t *testing.T, b *harness) {
	monthly, daily := NewPlan("monthly", quota.Limit{Requests: 9, Period: quota.Month}), NewPlan("daily", quota.Limit{Requests: 5, Period: quota.Day})
	terms := quota.PlanChoice{Claimed: monthly, ByName: map[string]*quota.Plan{"daily": daily, "monthly": monthly}}
	reserve := func() quota.Reservation {
		t.Helper()
		r := request("u", "analyze", monthly)
		r.Plans = terms
		return b.reserve(r).Reservation
	}
	counted, released := reserve(), reserve()
	if _, err := b.store.ApplyChange(context.Background(), "u", terms, quota.Change{Action: quota.ActionSetPlan, Plan: "daily"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []quota.Snapshot{b.commit(counted), b.commit(counted), b.release(released)} {
		if s.Plan != daily || s.Total.Used != 0 {
			t.Errorf("state %s by the plan %s", numbers(s), s.Plan.Name())
		}
	}
	b.wantState("u", monthly, "1+0 1+0 [1 0 0]")
	second := reserve()
	if second.Plan != daily {
		t.Errorf("reserved by the plan %s", second.Plan.Name())
	}
	if _, err := b.store.ApplyChange(context.Background(), "u", terms, quota.Change{Action: quota.ActionClearPlan}); err != nil {
		t.Fatal(err)
	}
	b.wantSnapshot(b.commit(second), "1+0 1+0 [1 0 0]")
	b.wantState("u", daily, "1+0 1+0 [1 0 0]")
}

func testSetCounts(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 50, Period: quota.Month}, quota.Limit{Requests: 50, Period: quota.Day}, quota.Limit{Requests: 9, Period: quota.Month, Endpoint: "report"})
	b.use(3, "u", "analyze", p)
	b.use(1, "u", "image-analysis", p)
	b.admit("u", "report", p)
	set := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 40, "report": 9}}
	for range 3 {
		b.wantSnapshot(b.applyChange("u", p, set), "50+1 50+1 4+1 9+1 [40 1 9]")
	}
	b.refuse("u", "analyze", p)
	set.Counts = map[string]int64{"analyze": 0, "report": 8}
	b.wantSnapshot(b.applyChange("u", p, set), "9+1 9+1 4+1 8+1 [0 1 8]")
	b.refuse("u", "report", p) // one is in flight
	b.use(1, "u", "analyze", p)
	b.wantState("u", p, "10+1 10+1 5+1 8+1 [1 1 8]")
	set.Counts = map[string]int64{"analyze": 0, "report": 0, "image-analysis": 0}
	b.wantSnapshot(b.applyChange("u", p, set), "0+1 0+1 5+1 0+1 [0 0 0]")
	// Into a window of a kind that no request has touched, by a user never seen.
	set = quota.Change{Action: quota.ActionSetCounts, Period: quota.Year, Counts: map[string]int64{"analyze": quota.MaxRequests}}
	yearly := NewPlan("yearly", quota.Limit{Requests: quota.MaxRequests, Period: quota.Year})
	b.applyChange("v", yearly, set)
	b.refuse("v", "analyze", yearly)
	set.Counts = map[string]int64{"report": 1}
	b.rejectChange("v", yearly, set, quota.ErrTooLarge)
	b.wantState("v", yearly, fmt.Sprintf("%[1]d+0 %[1]d+0 [%[1]d 0 0]", int64(quota.MaxRequests)))
}

func testChangeIDAppliesOnce(t *testing.T, b *harness) {
	grant := quota.Change{Action: quota.ActionGrant, Requests: 5, ID: `payment "17" /{x}*`, By: "ann", Reason: "paid"}
	b.wantSnapshot(b.applyChange("u", hundredAMonth, grant), "0+0 0+0/5 [0 0 0]")
	grant.By, grant.Reason = "bob", "once more" // who and why do not matter
	b.wantSnapshot(b.applyChange("u", hundredAMonth, grant), "0+0 0+0/5 [0 0 0]")
	other := grant
	other.Requests = 6
	b.rejectChange("u", hundredAMonth, other, quota.ErrIDConflict)
	b.rejectChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, ID: grant.ID}, quota.ErrIDConflict)
	b.wantSnapshot(b.applyChange("v", hundredAMonth, other), "0+0 0+0/6 [0 0 0]")
	// Also when the plan has no such limit any more.
	s, err := b.store.ApplyChange(context.Background(), "u", NewPlan("unlimited").OnlyChoice(), grant)
	if err != nil {
		t.Errorf("again under another plan: %v", err)
	}
	b.wantSnapshot(s, "0+0 [0 0 0]")
	b.clock.Advance(24 * time.Hour)
	b.wantSnapshot(b.applyChange("u", hundredAMonth, grant), "0+0 0+0/5 [0 0 0]")
	b.clock.Advance(20 * time.Second)
	b.wantSnapshot(b.applyChange("u", hundredAMonth, grant), "0+0 0+0/10 [0 0 0]")
	// At once on all gateways.
	var wait sync.WaitGroup
	grant.ID = "at once"
	for range 20 {
		wait.Go(func() {
			if _, err := b.store.ApplyChange(context.Background(), "u", hundredAMonth.OnlyChoice(), grant); err != nil {
				b.t.Errorf("Change: %v", err)
			}
		})
	}
	wait.Wait()
	b.wantState("u", hundredAMonth, "0+0 0+0/15 [0 0 0]")
	if entries := b.auditLog("u"); len(entries) != 3 || entries[2].By != "ann" {
		t.Errorf("the audit list is %+v", entries)
	}
}

func testChangeIDsAreBounded(t *testing.T, b *harness) {
	var wait sync.WaitGroup
	grant := quota.Change{Action: quota.ActionGrant, Requests: 1}
	next := make(chan int)
	for range 4 {
		wait.Go(func() {
			for i := range next {
				c := grant
				c.ID = fmt.Sprint("id-", i)
				if _, err := b.store.ApplyChange(context.Background(), "u", hundredAMonth.OnlyChoice(), c); err != nil {
					b.t.Errorf("Change %d: %v", i, err)
				}
			}
		})
	}
	for i := range quota.MaxChangeIDs {
		next <- i
	}
	close(next)
	wait.Wait()
	last := grant
	last.ID = "one more"
	b.rejectChange("u", hundredAMonth, last, quota.ErrTooManyIDs)
	known := grant
	known.ID = "id-0"
	b.applyChange("u", hundredAMonth, known)
	b.wantSnapshot(b.applyChange("u", hundredAMonth, grant), fmt.Sprintf("0+0 0+0/%d [0 0 0]", quota.MaxChangeIDs+1))
	b.applyChange("v", hundredAMonth, last)
	b.clock.Advance(25 * time.Hour)
	b.wantSnapshot(b.applyChange("u", hundredAMonth, last), fmt.Sprintf("0+0 0+0/%d [0 0 0]", quota.MaxChangeIDs+2))
}

func testAuditLog(t *testing.T, b *harness) {
	if got := b.auditLog("u"); len(got) != 0 {
		t.Errorf("a user never seen has %+v", got)
	}
	until := time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)
	changes := []quota.Change{
		{Action: quota.ActionGrant, Requests: 5, By: "ann", Reason: "a \"big\" customer, <ü>\\n", ID: "17"},
		{Action: quota.ActionReset},
		{Action: quota.ActionSetPlan, Plan: "pro", Until: until},
		{Action: quota.ActionSetCounts, Period: quota.Year, Counts: map[string]int64{"analyze": 3, "report": 0}},
		{Action: quota.ActionClearPlan, By: strings.Repeat("b", 256), Reason: strings.Repeat("r", 1024), ID: strings.Repeat("~", 256)},
	}
	for _, c := range changes {
		b.applyChange("u", hundredAMonth, c)
		b.clock.Advance(10 * time.Second)
	}
	changes[0].Period = quota.Month // the headline limit
	got := b.auditLog("u")
	slices.Reverse(got)
	for i, c := range changes {
		if i >= len(got) {
			t.Fatalf("%d entries, want %d", len(got), len(changes))
		}
		e := got[i]
		if late := e.At.Sub(noon.Add(time.Duration(i) * 10 * time.Second)); late < -time.Millisecond || late > 5*time.Second {
			t.Errorf("entry %d is of %v", i, e.At)
		}
		sameCounts := maps.Equal(e.Counts, c.Counts)
		e.Counts, c.Counts = nil, nil
		if !e.Until.Equal(c.Until) || !sameCounts {
			t.Errorf("entry %d is %+v, want %+v", i, got[i], changes[i])
		}
		e.Until, c.Until = time.Time{}, time.Time{}
		if fmt.Sprintf("%+v", e.Change) != fmt.Sprintf("%+v", c) {
			t.Errorf("entry %d is %+v, want %+v", i, e.Change, c)
		}
	}
	for i := range quota.MaxAuditEntries + 3 {
		b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, Reason: fmt.Sprint(i)})
	}
	got = b.auditLog("u")
	if len(got) != quota.MaxAuditEntries || got[0].Reason != fmt.Sprint(quota.MaxAuditEntries+2) || got[quota.MaxAuditEntries-1].Reason != "3" {
		t.Errorf("%d entries, the newest %+v", len(got), got[0])
	}
	b.clock.Advance(keep - time.Hour)
	b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, Reason: "later"})
	if got := b.auditLog("u"); len(got) != quota.MaxAuditEntries || got[0].Reason != "later" {
		t.Errorf("%d entries, the newest %+v", len(got), got[0])
	}
	b.clock.Advance(2 * time.Hour)
	b.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	if got := b.auditLog("u"); len(got) != 1 {
		t.Errorf("%d entries are kept for longer than they should be", len(got)-1)
	}
	b.clock.Advance(keep)
	b.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	if got := b.auditLog("u"); len(got) != 0 {
		t.Errorf("%d entries are kept for ever", len(got))
	}
}

func testInvalidChanges(t *testing.T, b *harness) {
	many := map[string]int64{}
	for i := range quota.MaxCountsPerChange + 1 {
		many[fmt.Sprint("e", i)] = 1
	}
	for _, c := range []quota.Change{
		{},
		{Action: "other"},
		{Action: quota.ActionGrant},
		{Action: quota.ActionGrant, Requests: -1},
		{Action: quota.ActionGrant, Requests: quota.MaxRequests + 1},
		{Action: quota.ActionGrant, Requests: 1, Period: 9},
		{Action: quota.ActionGrant, Requests: 1, Endpoint: "report"},
		{Action: quota.ActionGrant, Requests: 1, Endpoint: "a/b", Period: quota.Day},
		{Action: quota.ActionGrant, Requests: 1, Plan: "pro"},
		{Action: quota.ActionReset, Requests: 1},
		{Action: quota.ActionReset, Period: quota.Day},
		{Action: quota.ActionReset, By: "a\nb"},
		{Action: quota.ActionReset, By: strings.Repeat("b", 257)},
		{Action: quota.ActionReset, Reason: "\x00"},
		{Action: quota.ActionReset, Reason: "\xff"},
		{Action: quota.ActionReset, Reason: strings.Repeat("r", 1025)},
		{Action: quota.ActionReset, ID: "ü"},
		{Action: quota.ActionReset, ID: strings.Repeat("i", 257)},
		{Action: quota.ActionSetPlan},
		{Action: quota.ActionSetPlan, Plan: "a b"},
		{Action: quota.ActionSetPlan, Plan: strings.Repeat("p", 65)},
		{Action: quota.ActionSetPlan, Plan: "pro", Until: time.Unix(0, 0)},
		{Action: quota.ActionSetPlan, Plan: "pro", Until: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Action: quota.ActionClearPlan, Plan: "pro"},
		{Action: quota.ActionSetCounts, Period: quota.Day},
		{Action: quota.ActionSetCounts, Counts: map[string]int64{"report": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"a b": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": -1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": quota.MaxRequests + 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: many},
	} {
		b.rejectChange("u", hundredAMonth, c, quota.ErrInvalidChange)
	}
	for _, user := range []string{"", "a\x00b", "a\nb", "\xff", strings.Repeat("u", 257)} {
		b.rejectChange(user, hundredAMonth, quota.Change{Action: quota.ActionReset}, quota.ErrInvalidChange)
	}
	if n := len(b.auditLog("u")); n != 0 {
		t.Errorf("%d entries in the audit list", n)
	}
}

func testWatchChanges(t *testing.T, b *harness) {
	told := make(chan struct{}, 1)
	defer b.store.Watch("u", told)()
	wait := func(what string, change func()) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
			change()
			select {
			case <-told:
				return
			case <-time.After(100 * time.Millisecond): // it begins to listen some time soon
			}
		}
		t.Fatalf("not told of %s within 30 s", what)
	}
	for _, c := range []quota.Change{
		{Action: quota.ActionGrant, Requests: 1},
		{Action: quota.ActionReset},
		{Action: quota.ActionSetPlan, Plan: "pro"},
		{Action: quota.ActionClearPlan},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 1}},
	} {
		wait(string(c.Action), func() { b.applyChange("u", hundredAMonth, c) })
	}
}

func testReadAt(t *testing.T, b *harness) {
	at := func(user string, p *quota.Plan, at time.Time, want string) {
		t.Helper()
		s, err := b.store.ReadAt(context.Background(), user, p.OnlyChoice(), at)
		if err != nil {
			t.Errorf("%v: %v", at, err)
			return
		}
		b.wantSnapshot(s, want)
	}
	b.use(2, "u", "analyze", hundredAMonth)
	b.admit("u", "report", hundredAMonth)
	november := b.clock.Now()
	at("u", hundredAMonth, november.AddDate(0, 0, 10), "2+1 2+1 [2 0 0]") // the same month
	lasting := request("u", "report", hundredAMonth)
	lasting.Lease = 100 * 24 * time.Hour
	b.reserve(lasting)
	b.clock.Set(time.Date(2026, 12, 5, 12, 0, 0, 0, time.UTC))
	b.use(1, "u", "report", hundredAMonth)
	at("u", hundredAMonth, november, "2+0 2+0 [2 0 0]")
	at("u", hundredAMonth, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), "2+0 2+0 [2 0 0]")
	at("u", hundredAMonth, time.Date(2026, 10, 31, 0, 0, 0, 0, time.UTC), "0+0 0+0 [0 0 0]")
	at("u", hundredAMonth, b.clock.Now(), "1+0 1+0 [0 0 1]")
	at("nobody", hundredAMonth, november, "0+0 0+0 [0 0 0]")
	for _, wrong := range []time.Time{time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), b.clock.Now().Add(-keep - 63*24*time.Hour)} {
		if _, err := b.store.ReadAt(context.Background(), "u", hundredAMonth.OnlyChoice(), wrong); !errors.Is(err, quota.ErrNotKept) {
			t.Errorf("%v: error %v, want %v", wrong, err, quota.ErrNotKept)
		}
	}
	b.clock.Advance(keep - 4*24*time.Hour - 13*time.Hour) // an hour before November is kept for the last time
	at("u", hundredAMonth, november, "2+0 2+0 [2 0 0]")
	b.clock.Advance(2 * time.Hour)
	if _, err := b.store.ReadAt(context.Background(), "u", hundredAMonth.OnlyChoice(), november); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("not kept any more: error %v, want %v", err, quota.ErrNotKept)
	}
}

func testClaimedPlan(t *testing.T, b *harness) {
	want := func(user, plan string) {
		t.Helper()
		if got, err := b.store.ClaimedPlan(context.Background(), user); err != nil || got != plan {
			t.Errorf("%s: the plan is %q, error %v; want %q", user, got, err, plan)
		}
		err := b.store.ScanUsers(context.Background(), quota.Month, b.clock.Now(), func(u quota.UserUsage) error {
			if u.User == user && u.ClaimedPlan != plan {
				t.Errorf("%s is listed with the plan %q, want %q", user, u.ClaimedPlan, plan)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	pro, none := NewPlan("pro", quota.Limit{Requests: 100, Period: quota.Day}), NewPlan("none", quota.Limit{Period: quota.Month})
	want("u", "")
	b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 1}})
	want("u", "") // no token has been seen
	b.use(1, "u", "report", hundredAMonth)
	want("u", "free")
	b.refuse("u", "report", none)
	want("u", "free")
	// What an administrator chooses is another matter.
	b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "none"})
	b.use(1, "u", "report", pro)
	want("u", "pro")
	b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionClearPlan})
	b.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	want("u", "pro")
	want("u2", "")
	// It stays with the counts, and goes on with them.
	b.clock.Advance(100 * 24 * time.Hour)
	want("u", "pro")
	b.use(1, "u", "report", hundredAMonth)
	want("u", "free")
}
