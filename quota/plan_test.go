package quota_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
)

var endpoints = []string{"report", "analyze", "image-analysis"}

// newPlan makes a plan for endpoints that warns at 80 percent.
func newPlan(t testing.TB, limits ...quota.Limit) *quota.Plan {
	t.Helper()
	p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: limits, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewPlanRefusesInvalidOptions(t *testing.T) {
	month := quota.Limit{Amount: 100, Period: quota.Month}
	for _, tt := range []struct {
		name   string
		limits []quota.Limit
		warnAt int
		want   []string // what the message must contain in addition to the plan
	}{
		{"a warning at 0 percent", []quota.Limit{month}, 0, []string{"warning threshold", "1 to 100", "got 0"}},
		{"a warning below 0 percent", nil, -1, []string{"warning threshold", "got -1"}},
		{"a warning over 100 percent", nil, 101, []string{"warning threshold", "got 101"}},
		{"not a period", []quota.Limit{month, {Amount: 1}}, 80, []string{"limit 1", "Period(0)"}},
		{"one period too many", []quota.Limit{{Amount: 1, Period: quota.Ever + 1}}, 80, []string{"limit 0", "Period(8)"}},
		{"a negative number of requests", []quota.Limit{{Amount: -1, Period: quota.Day}}, 80, []string{"limit day", "got -1"}},
		{"too many requests", []quota.Limit{{Amount: quota.MaxAmount + 1, Period: quota.Day, Endpoint: "report"}}, 80,
			[]string{"limit report-day", "0 to 1000000000000", "got 1000000000001"}},
		{"an unknown endpoint", []quota.Limit{month, {Amount: 1, Period: quota.Month, Endpoint: "reports"}}, 80, []string{"limit reports-month", "endpoint"}},
		{"a limit twice", []quota.Limit{month, {Amount: 5, Period: quota.Minute}, {Amount: 200, Period: quota.Month}}, 80, []string{"limit month", "twice"}},
		{"an endpoint's limit twice", []quota.Limit{{Amount: 1, Period: quota.Day, Endpoint: "report"}, {Amount: 1, Period: quota.Day, Endpoint: "report"}}, 80,
			[]string{"limit report-day", "twice"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: tt.limits, Endpoints: endpoints, WarnAt: tt.warnAt})
			if err == nil || p != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			for _, want := range append(tt.want, "plan pro") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestNewPlanAccepts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits []quota.Limit
		warnAt int
	}{
		{"no limits", nil, 80},
		{"the bounds", []quota.Limit{{Amount: 0, Period: quota.Minute}, {Amount: quota.MaxAmount, Period: quota.Year}}, 1},
		{"a warning at the limit itself", []quota.Limit{{Amount: 1, Period: quota.Day}}, 100},
		{"one endpoint in two windows, one window for two endpoints", []quota.Limit{
			{Amount: 1, Period: quota.Day, Endpoint: "report"}, {Amount: 1, Period: quota.Month, Endpoint: "report"},
			{Amount: 1, Period: quota.Day, Endpoint: "analyze"}, {Amount: 1, Period: quota.Day},
		}, 80},
	} {
		p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: tt.limits, Endpoints: endpoints, WarnAt: tt.warnAt})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if p.Name() != "pro" || !slices.Equal(p.Limits(), tt.limits) {
			t.Errorf("%s: %s has %v", tt.name, p.Name(), p.Limits())
		}
	}
	if p, err := quota.NewPlan(quota.PlanOptions{Name: "none", Limits: []quota.Limit{{Amount: 1, Period: quota.Day}}, WarnAt: 80}); err != nil {
		t.Errorf("a configuration without endpoints: %v", err)
	} else if want := []quota.Counter{{Period: quota.Day}, {Period: quota.Day}}; !slices.Equal(p.Counters(), want) {
		t.Errorf("a configuration without endpoints counts %v, want %v", p.Counters(), want)
	}
}

// A reload builds new plans from slices that it may reuse.
func TestNewPlanCopiesItsOptions(t *testing.T) {
	limits := []quota.Limit{{Amount: 100, Period: quota.Month}}
	names := []string{"report", "analyze"}
	p, err := quota.NewPlan(quota.PlanOptions{Name: "free", Limits: limits, Endpoints: names, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	if names[0] != "report" {
		t.Errorf("the caller's endpoints are sorted: %v", names)
	}
	limits[0].Amount, names[0] = 1, "drill"
	if p.Limits()[0].Amount != 100 {
		t.Errorf("the plan's limit is now %v", p.Limits()[0])
	}
	if want := (quota.Counter{Period: quota.Month, Endpoint: "report"}); !slices.Contains(p.Counters(), want) {
		t.Errorf("the plan counts %v", p.Counters())
	}
}

// The headline is the first limit without an endpoint, and its period is the report period. A
// store keeps one number for each limit, one for the report period, and one for each endpoint
// over it, sorted by name.
func TestPlanDerivesCountersFromLimits(t *testing.T) {
	type counter = quota.Counter
	for _, tt := range []struct {
		name     string
		limits   []quota.Limit
		headline int // -1: none
		period   quota.Period
		periods  []quota.Period // in any order
		counters []quota.Counter
	}{
		{
			name: "no limits", headline: -1, period: quota.Month,
			periods: []quota.Period{quota.Month},
			counters: []counter{
				{Period: quota.Month}, {Period: quota.Month, Endpoint: "analyze"}, {Period: quota.Month, Endpoint: "image-analysis"}, {Period: quota.Month, Endpoint: "report"},
			},
		}, {
			name: "limits of endpoints only", headline: -1, period: quota.Month,
			limits:  []quota.Limit{{Amount: 5, Period: quota.Day, Endpoint: "report"}},
			periods: []quota.Period{quota.Day, quota.Month},
			counters: []counter{
				{Period: quota.Day, Endpoint: "report"},
				{Period: quota.Month}, {Period: quota.Month, Endpoint: "analyze"}, {Period: quota.Month, Endpoint: "image-analysis"}, {Period: quota.Month, Endpoint: "report"},
			},
		}, {
			name: "the contract's pro", headline: 0, period: quota.Month,
			limits: []quota.Limit{
				{Amount: 5000, Period: quota.Month},
				{Amount: 500, Period: quota.Month, Endpoint: "image-analysis"},
				{Amount: 60, Period: quota.Minute},
			},
			periods: []quota.Period{quota.Month, quota.Minute},
			counters: []counter{
				{Period: quota.Month}, {Period: quota.Month, Endpoint: "image-analysis"}, {Period: quota.Minute},
				{Period: quota.Month}, {Period: quota.Month, Endpoint: "analyze"}, {Period: quota.Month, Endpoint: "image-analysis"}, {Period: quota.Month, Endpoint: "report"},
			},
		}, {
			name: "the headline comes later and is not the longest", headline: 1, period: quota.Day,
			limits: []quota.Limit{
				{Amount: 5, Period: quota.Week, Endpoint: "report"},
				{Amount: 10, Period: quota.Day},
				{Amount: 100, Period: quota.Year},
				{Amount: 6, Period: quota.Week, Endpoint: "analyze"},
			},
			periods: []quota.Period{quota.Week, quota.Day, quota.Year},
			counters: []counter{
				{Period: quota.Week, Endpoint: "report"}, {Period: quota.Day}, {Period: quota.Year}, {Period: quota.Week, Endpoint: "analyze"},
				{Period: quota.Day}, {Period: quota.Day, Endpoint: "analyze"}, {Period: quota.Day, Endpoint: "image-analysis"}, {Period: quota.Day, Endpoint: "report"},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(t, tt.limits...)
			if i, ok := p.Headline(); ok != (tt.headline >= 0) || ok && i != tt.headline {
				t.Errorf("Headline = %d, %v, want %d", i, ok, tt.headline)
			}
			if p.ReportPeriod() != tt.period {
				t.Errorf("ReportPeriod = %v, want %v", p.ReportPeriod(), tt.period)
			}
			slices.Sort(tt.periods)
			if diff := cmp.Diff(tt.periods, slices.Sorted(slices.Values(p.Periods()))); diff != "" {
				t.Errorf("Periods (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.counters, p.Counters()); diff != "" {
				t.Errorf("Counters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimitNameAndAppliesTo(t *testing.T) {
	all := quota.Limit{Amount: 1, Period: quota.Month}
	one := quota.Limit{Amount: 1, Period: quota.Week, Endpoint: "image-analysis"}
	if all.Name() != "month" || one.Name() != "image-analysis-week" {
		t.Errorf("names: %s, %s", all.Name(), one.Name())
	}
	if !all.AppliesTo("report") || !all.AppliesTo("image-analysis") {
		t.Error("a limit without an endpoint does not apply to every endpoint")
	}
	if !one.AppliesTo("image-analysis") || one.AppliesTo("report") || one.AppliesTo("image") || one.AppliesTo("") {
		t.Error("an endpoint's limit applies to others, or not to its own")
	}
}
