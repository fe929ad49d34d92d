package quota_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"metergate/quota"
)

// A snapshot with the numbers of the contract's example is written as that example, member
// for member: what the example leaves out is left out.
func TestUsageMatchesContractExample(t *testing.T) {
	const example = `{
	  "user": "u-17", "plan": "free",
	  "used": 42, "limit": 100, "remaining": 58, "in_flight": 1,
	  "percent": 42, "status": "ok", "allowed": true,
	  "period": { "per": "month", "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z" },
	  "endpoints": {
	    "analyze":        { "used": 30 },
	    "image-analysis": { "used": 12, "limit": 20, "remaining": 8, "percent": 60, "status": "ok", "allowed": true }
	  },
	  "limits": [
	    { "name": "month", "per": "month", "used": 42, "limit": 100, "remaining": 58, "resets_at": "2026-12-01T00:00:00Z" },
	    { "name": "image-analysis-month", "endpoint": "image-analysis", "per": "month", "used": 12, "limit": 20, "remaining": 8, "resets_at": "2026-12-01T00:00:00Z" }
	  ],
	  "stale": false, "as_of": "2026-11-23T12:00:00Z"
	}`
	p, err := quota.NewPlan(quota.PlanOptions{Name: "free", Limits: []quota.Limit{limit(month, 100), limit(imageMonth, 20)}, Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	u := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), tallies{
		month: {42, 1}, imageMonth: {12, 0}, {Period: quota.Month, Endpoint: "analyze"}: {30, 1},
	}).Usage("u-17")

	if diff := cmp.Diff(decode(t, []byte(example)), object(t, u)); diff != "" {
		t.Errorf("(-contract +got):\n%s", diff)
	}
	stale := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), nil)
	stale.Stale = true // the store did not answer
	if got := object(t, stale.Usage("u-17")); got["stale"] != true {
		t.Errorf("of a stale snapshot: stale is %v", got["stale"])
	}
	// Our own client reads back what was sent.
	var back quota.Usage
	if err := json.Unmarshal([]byte(example), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(u, back); diff != "" {
		t.Errorf("read back (-sent +got):\n%s", diff)
	}
}

func TestUsageWithoutHeadline(t *testing.T) {
	at := instant(t, "2026-11-23T12:00:00Z")
	period := map[string]any{"per": "month", "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
	for _, tt := range []struct {
		name   string
		limits []quota.Limit
		want   map[string]any // members that it must have
	}{
		{"no limits", nil, map[string]any{
			"endpoints": map[string]any{
				"analyze": map[string]any{"used": 0.0}, "report": map[string]any{"used": 7.0}, "image-analysis": map[string]any{"used": 12.0},
			},
			"limits": []any{}, // an empty list, not null: clients loop over it
		}},
		{"limits of endpoints only", []quota.Limit{limit(imageMonth, 12)}, map[string]any{
			"endpoints": map[string]any{
				"analyze": map[string]any{"used": 0.0}, "report": map[string]any{"used": 7.0},
				"image-analysis": map[string]any{"used": 12.0, "limit": 12.0, "remaining": 0.0, "percent": 100.0, "status": "blocked", "allowed": false},
			},
			"limits": []any{map[string]any{
				"name": "image-analysis-month", "endpoint": "image-analysis", "per": "month",
				"used": 12.0, "limit": 12.0, "remaining": 0.0, "resets_at": "2026-12-01T00:00:00Z",
			}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(t, tt.limits...)
			got := object(t, snapshot(p, at, tallies{month: {19, 2}, imageMonth: {12, 0}, reportMonth: {7, 0}}).Usage("u-17"))
			want := map[string]any{
				"user": "u-17", "plan": "pro", "used": 19.0, "limit": nil, "remaining": nil, "percent": nil, "in_flight": 2.0,
				"status": "ok", "allowed": true, "period": period, "stale": false, "as_of": "2026-11-23T12:00:00Z",
			}
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("no endpoints", func(t *testing.T) {
		p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		if got := object(t, snapshot(p, at, nil).Usage("u-17"))["endpoints"]; !cmp.Equal(got, any(map[string]any{})) {
			t.Errorf("endpoints: %v", got)
		}
	})
}

func decode(t testing.TB, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func object(t testing.TB, u quota.Usage) map[string]any {
	t.Helper()
	text, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// The numbers of a limit, for the headline limit and for an endpoint's own.
func TestUsageComputesNumbers(t *testing.T) {
	const tril = quota.MaxAmount
	for _, tt := range []struct {
		used, held, limit int64
		warnAt            int
		remaining         int64
		percent           int64
		status            quota.Status
		allowed           bool
	}{
		{0, 0, 100, 80, 100, 0, "ok", true},
		{1, 0, 100, 80, 99, 1, "ok", true},
		{79, 0, 100, 80, 21, 79, "ok", true},
		{80, 0, 100, 80, 20, 80, "warning", true},
		{99, 0, 100, 80, 1, 99, "warning", true},
		{100, 0, 100, 80, 0, 100, "blocked", false},
		// A limit that was lowered below what was used.
		{101, 0, 100, 80, 0, 101, "blocked", false},
		{250, 0, 100, 80, 0, 250, "blocked", false},
		// Holds affect only allowed.
		{79, 20, 100, 80, 21, 79, "ok", true},
		{79, 21, 100, 80, 21, 79, "ok", false},
		{0, 100, 100, 80, 100, 0, "ok", false},
		{99, 1, 100, 80, 1, 99, "warning", false},
		{80, 19, 100, 80, 20, 80, "warning", true},
		// 80 percent is not a whole number: 80% of 7 is 5.6.
		{5, 0, 7, 80, 2, 71, "ok", true},
		{6, 0, 7, 80, 1, 85, "warning", true},
		// 2 of 3 are 66.67 percent: over 66, not yet 67, and shown as 66.
		{2, 0, 3, 66, 1, 66, "warning", true},
		{2, 0, 3, 67, 1, 66, "ok", true},
		// 33% of 150 is 49.5.
		{49, 0, 150, 33, 101, 32, "ok", true},
		{50, 0, 150, 33, 100, 33, "warning", true},
		// 199 of 200 are 99.5 percent; only the last request reaches 100.
		{199, 0, 200, 100, 1, 99, "ok", true},
		{200, 0, 200, 100, 0, 100, "blocked", false},
		{0, 0, 1, 1, 1, 0, "ok", true},
		{1, 0, 100, 1, 99, 1, "warning", true},
		{9, 0, 1000, 1, 991, 0, "ok", true},
		{10, 0, 1000, 1, 990, 1, "warning", true},
		{1, 0, 1, 80, 0, 100, "blocked", false},
		// A limit of 0: blocked before the first request.
		{0, 0, 0, 80, 0, 100, "blocked", false},
		{5, 0, 0, 80, 0, 100, "blocked", false},
		// The largest limit, exactly.
		{0, 0, tril, 80, tril, 0, "ok", true},
		{tril/10*8 - 1, 0, tril, 80, tril/10*2 + 1, 79, "ok", true},
		{tril / 10 * 8, 0, tril, 80, tril / 10 * 2, 80, "warning", true},
		{tril - 1, 0, tril, 100, 1, 99, "ok", true},
		{tril - 1, 1, tril, 100, 1, 99, "ok", false},
		{tril, 0, tril, 100, 0, 100, "blocked", false},
		{tril, tril, tril, 100, 0, 100, "blocked", false},
		{tril, 0, 1, 100, 0, 100 * tril, "blocked", false},
	} {
		t.Run(fmt.Sprintf("%d and %d held of %d, warning at %d", tt.used, tt.held, tt.limit, tt.warnAt), func(t *testing.T) {
			p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: []quota.Limit{limit(imageMonth, tt.limit), limit(month, tt.limit)}, Endpoints: endpoints, WarnAt: tt.warnAt})
			if err != nil {
				t.Fatal(err)
			}
			u := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), tallies{
				month: {tt.used, tt.held}, imageMonth: {tt.used, tt.held},
			}).Usage("u")

			// numbers has the members of an endpoint; the top has the same ones.
			numbers := quota.EndpointUsage{
				Used: tt.used, Limit: &tt.limit, Remaining: &tt.remaining, Percent: &tt.percent, Status: tt.status, Allowed: &tt.allowed,
			}
			top := quota.EndpointUsage{
				Used: u.Used, Limit: u.Limit, Remaining: u.Remaining, Percent: u.Percent, Status: u.Status, Allowed: &u.Allowed,
			}
			if diff := cmp.Diff(numbers, top); diff != "" {
				t.Errorf("the top (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(numbers, u.Endpoints["image-analysis"]); diff != "" {
				t.Errorf("the endpoint (-want +got):\n%s", diff)
			}
			if u.InFlight != tt.held {
				t.Errorf("in flight: %d, want %d", u.InFlight, tt.held)
			}
			for _, l := range u.Limits {
				if l.Used != tt.used || l.Limit != tt.limit || l.Remaining != tt.remaining {
					t.Errorf("in limits: %+v", l)
				}
			}
			if got := quota.Remaining(tt.used, tt.limit); got != tt.remaining {
				t.Errorf("Remaining = %d, want %d", got, tt.remaining)
			}
		})
	}
}

// The top's allowed considers every limit without an endpoint, whatever its period. An
// endpoint's allowed also considers the endpoint's own limits.
func TestUsageAllowedConsidersEveryLimit(t *testing.T) {
	limits := []quota.Limit{limit(month, 100), limit(minute, 5), limit(imageMonth, 20), limit(imageDay, 3)}
	for _, tt := range []struct {
		name                string
		tallies             tallies
		allowed, ofEndpoint bool
		status, image       quota.Status
	}{
		{"nothing used", nil, true, true, "ok", "ok"},
		{"the minute is used up", tallies{month: {5, 0}, minute: {5, 0}}, false, false, "ok", "ok"},
		{"the minute's last unit is held", tallies{month: {4, 1}, minute: {4, 1}}, false, false, "ok", "ok"},
		{"the minute has one left", tallies{month: {3, 1}, minute: {3, 1}}, true, true, "ok", "ok"},
		{"the month is used up", tallies{month: {100, 0}}, false, false, "blocked", "ok"},
		{"the endpoint's month is used up", tallies{month: {20, 0}, imageMonth: {20, 0}}, true, false, "ok", "blocked"},
		{"the endpoint's month is held", tallies{month: {19, 1}, imageMonth: {19, 1}}, true, false, "ok", "warning"},
		{"the endpoint's day is used up", tallies{month: {3, 0}, imageMonth: {3, 0}, imageDay: {3, 0}}, true, false, "ok", "ok"},
		{"the endpoint's day is held", tallies{month: {0, 3}, imageMonth: {0, 3}, imageDay: {0, 3}}, true, false, "ok", "ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(t, limits...)
			u := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), tt.tallies).Usage("u")
			if u.Allowed != tt.allowed || u.Status != tt.status {
				t.Errorf("the top: allowed %v, %s, want %v, %s", u.Allowed, u.Status, tt.allowed, tt.status)
			}
			image := u.Endpoints["image-analysis"]
			if image.Allowed == nil || *image.Allowed != tt.ofEndpoint || image.Status != tt.image {
				t.Errorf("the endpoint: %+v, want allowed %v, %s", image, tt.ofEndpoint, tt.image)
			}
		})
	}
}

// The numbers of endpoints are over the report period, whatever the periods of the limits.
// Each limit has its own window.
func TestUsageReportsEachWindow(t *testing.T) {
	p := newPlan(t, limit(imageMonth, 20), limit(day, 10), limit(minute, 5), limit(month, 100))
	u := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), tallies{
		minute: {1, 0}, day: {6, 2}, month: {42, 3}, imageDay: {2, 0}, imageMonth: {12, 1}, reportMonth: {30, 0},
		{Period: quota.Day, Endpoint: "report"}: {4, 0},
	}).Usage("u")

	// The headline is the first limit without an endpoint, the day.
	if u.Used != 6 || *u.Limit != 10 || *u.Remaining != 4 || *u.Percent != 60 || u.InFlight != 2 || u.Status != quota.StatusOK {
		t.Errorf("the top: %+v", u)
	}
	wantPeriod := quota.UsagePeriod{Period: quota.Day, Start: new(instant(t, "2026-11-23T00:00:00Z")), End: new(instant(t, "2026-11-24T00:00:00Z"))}
	if diff := cmp.Diff(wantPeriod, u.Period); diff != "" {
		t.Errorf("period (-want +got):\n%s", diff)
	}
	// The endpoint's limit has another period: its numbers are only in limits.
	yes := true
	if diff := cmp.Diff(map[string]quota.EndpointUsage{
		"analyze": {Used: 0}, "image-analysis": {Used: 2, Allowed: &yes}, "report": {Used: 4},
	}, u.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	december := instant(t, "2026-12-01T00:00:00Z")
	if diff := cmp.Diff([]quota.LimitUsage{
		{Name: "image-analysis-month", Endpoint: "image-analysis", Period: quota.Month, Used: 12, Limit: 20, Remaining: 8, ResetsAt: &december},
		{Name: "day", Period: quota.Day, Used: 6, Limit: 10, Remaining: 4, ResetsAt: new(instant(t, "2026-11-24T00:00:00Z"))},
		{Name: "minute", Period: quota.Minute, Used: 1, Limit: 5, Remaining: 4, ResetsAt: new(instant(t, "2026-11-23T12:01:00Z"))},
		{Name: "month", Period: quota.Month, Used: 42, Limit: 100, Remaining: 58, ResetsAt: &december},
	}, u.Limits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// The contract's rules, computed independently for any plan and any counts.
func TestUsageFollowsContract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawSnapshot(t)
		u := d.snapshot.Usage("u")
		if got := slices.Sorted(maps.Keys(u.Endpoints)); !slices.Equal(got, slices.Sorted(slices.Values(endpoints))) {
			t.Fatalf("endpoints are %v", got)
		}
		open := map[string]bool{"": true}
		for _, e := range endpoints {
			open[e] = true
		}
		for i, l := range d.plan.Limits() {
			n := d.tallies[quota.Counter{Period: l.Period, Endpoint: l.Endpoint}]
			for e := range open {
				if l.Endpoint == "" || l.Endpoint == e {
					open[e] = open[e] && n.used+n.held < l.Amount
				}
			}
			if got := u.Limits[i]; got.Used != n.used || got.Limit != l.Amount || got.Remaining < 0 || !got.ResetsAt.After(d.snapshot.At) {
				t.Fatalf("limit %+v with %+v is %+v", l, n, got)
			}
		}
		if u.Allowed != open[""] {
			t.Fatalf("allowed: %v", u.Allowed)
		}
		for _, e := range endpoints {
			own := slices.ContainsFunc(d.plan.Limits(), func(l quota.Limit) bool { return l.Endpoint == e })
			period := slices.ContainsFunc(d.plan.Limits(), func(l quota.Limit) bool { return l.Endpoint == e && l.Period == u.Period.Period })
			got := u.Endpoints[e]
			if (got.Allowed != nil) != own || own && *got.Allowed != open[e] {
				t.Fatalf("%s, which is open: %v, has %+v", e, open[e], got)
			}
			if (got.Limit != nil) != period || (got.Remaining != nil) != period || (got.Percent != nil) != period || (got.Status != "") != period {
				t.Fatalf("%s, which has a limit over the period: %v, has %+v", e, period, got)
			}
		}
		if u.AsOf.After(d.snapshot.At) || d.snapshot.At.Sub(u.AsOf) >= time.Second {
			t.Fatalf("as of %v, read at %v", u.AsOf, d.snapshot.At)
		}
	})
}

// percent and status are exact over the whole range, in which used*100 has 15 digits.
func TestUsagePercentIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requests := rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Int64Range(1, quota.MaxAmount)).Draw(t, "requests")
		warnAt := rapid.IntRange(1, 100).Draw(t, "warn at")
		// Around the border of the warning, where rounding would show.
		border := new(big.Int).Mul(big.NewInt(requests), big.NewInt(int64(warnAt)))
		used := max(0, border.Div(border, big.NewInt(100)).Int64()+rapid.Int64Range(-2, 2).Draw(t, "used, off the border by"))
		p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: []quota.Limit{limit(month, requests)}, Endpoints: endpoints, WarnAt: warnAt})
		if err != nil {
			t.Fatal(err)
		}
		u := snapshot(p, time.Unix(1_800_000_000, 0), tallies{month: {used, 0}}).Usage("u")

		hundredfold := new(big.Int).Mul(big.NewInt(used), big.NewInt(100))
		percent := new(big.Int).Div(hundredfold, big.NewInt(requests)).Int64()
		status := quota.StatusOK
		switch {
		case used >= requests:
			status = quota.StatusBlocked
		case hundredfold.Cmp(new(big.Int).Mul(big.NewInt(requests), big.NewInt(int64(warnAt)))) >= 0:
			status = quota.StatusWarning
		}
		if *u.Percent != percent || u.Status != status {
			t.Fatalf("%d of %d, warning at %d: %d percent, %s, want %d, %s", used, requests, warnAt, *u.Percent, u.Status, percent, status)
		}
	})
}

// The usage object of a member has their own numbers and those of the pool, and says which are
// which. That of a pool has no user.
func TestUsageOfMembersAndPools(t *testing.T) {
	shared := quota.Counter{Period: quota.Month, Shared: true}
	sharedImages := quota.Counter{Period: quota.Month, Endpoint: "image-analysis", Shared: true}
	limits := []quota.Limit{
		{Amount: 500, Period: quota.Month, Shared: true}, {Amount: 50, Period: quota.Month, Endpoint: "image-analysis", Shared: true},
		limit(month, 20),
	}
	p, err := quota.NewPlan(quota.PlanOptions{Name: "team", Limits: limits, Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	at := instant(t, "2026-11-23T12:00:00Z")
	numbers := tallies{
		month: {12, 1}, shared: {400, 3}, imageMonth: {2, 0}, sharedImages: {50, 0}, {Period: quota.Month, Endpoint: "analyze"}: {10, 1},
	}
	u := snapshot(p, at, numbers).Usage(quota.MemberAccount("acme", "u-17"))
	const member = `{
	  "user": "u-17", "org": "acme", "plan": "team",
	  "used": 12, "limit": 20, "remaining": 8, "in_flight": 1, "percent": 60, "status": "ok", "allowed": true,
	  "period": { "per": "month", "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z" },
	  "endpoints": { "analyze": { "used": 10 }, "image-analysis": { "used": 2, "allowed": false } },
	  "limits": [
	    { "name": "shared-month", "per": "month", "shared": true, "used": 400, "limit": 500, "remaining": 100, "resets_at": "2026-12-01T00:00:00Z" },
	    { "name": "shared-image-analysis-month", "endpoint": "image-analysis", "per": "month", "shared": true, "used": 50, "limit": 50, "remaining": 0, "resets_at": "2026-12-01T00:00:00Z" },
	    { "name": "month", "per": "month", "used": 12, "limit": 20, "remaining": 8, "resets_at": "2026-12-01T00:00:00Z" }
	  ],
	  "stale": false, "as_of": "2026-11-23T12:00:00Z"
	}`
	if diff := cmp.Diff(decode(t, []byte(member)), object(t, u)); diff != "" {
		t.Errorf("of a member (-want +got):\n%s", diff)
	}

	pool := object(t, snapshot(p.ForScope(quota.PoolScope), at, tallies{month: {400, 3}, imageMonth: {50, 0}}).Usage(quota.PoolAccount("acme")))
	if _, hasUser := pool["user"]; hasUser || pool["org"] != "acme" || pool["used"] != 400. || pool["limit"] != 500. {
		t.Errorf("of a pool: %v", pool)
	}
	user := object(t, snapshot(p.ForScope(quota.UserScope), at, tallies{month: {12, 1}}).Usage("u-17"))
	if _, hasOrg := user["org"]; hasOrg || len(user["limits"].([]any)) != 1 {
		t.Errorf("of a user without an organisation: %v", user)
	}
}

// What was carried is part of the limit, and shown beside it wherever the limit carries.
func TestUsageShowsWhatWasCarried(t *testing.T) {
	carrying := limit(month, 100)
	carrying.Carry = 30
	p := newPlan(t, carrying, limit(imageMonth, 20))
	s := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), tallies{month: {42, 0}})
	for _, carried := range []int64{0, 30} {
		s.Limits[0].Carried = carried
		got := object(t, s.Usage("u"))
		if got["carried"] != float64(carried) || got["limit"] != float64(100+carried) || got["remaining"] != float64(58+carried) {
			t.Errorf("the top with %d carried: %v", carried, got)
		}
		limits := got["limits"].([]any)
		first, second := limits[0].(map[string]any), limits[1].(map[string]any)
		if first["carried"] != float64(carried) || first["limit"] != float64(100+carried) || second["carried"] != nil {
			t.Errorf("the limits with %d carried: %v", carried, limits)
		}
	}
	if got, ok := object(t, snapshot(newPlan(t, limit(month, 100)), s.At, nil).Usage("u"))["carried"]; ok {
		t.Errorf("without carry: %v", got)
	}
}
