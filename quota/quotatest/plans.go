package quotatest

import (
	"time"

	"metergate/quota"
)

var endpoints = []string{"analyze", "image-analysis", "report"}

// NewPlan makes a plan with the suite's endpoints and a warning from 80 percent.
func NewPlan(name string, limits ...quota.Limit) *quota.Plan {
	return NewAttemptLimitedPlan(name, quota.AttemptLimit{}, limits...)
}

// NewAttemptLimitedPlan is NewPlan with an attempt limit.
func NewAttemptLimitedPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts})
}

// NewObservingPlan is NewAttemptLimitedPlan for a plan in observe mode.
func NewObservingPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Observe: true})
}

// NewWeightedPlan is NewPlan where requests may cost several units.
func NewWeightedPlan(name string, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Costs: map[string]quota.Cost{"analyze": {Min: 0, Max: 3}}})
}

// NewConcurrentPlan is NewPlan with a bound of the requests that run at once.
func NewConcurrentPlan(name string, requests int64, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Concurrent: quota.ConcurrencyLimit{Requests: requests}})
}

// mustPlan makes a plan with the suite's endpoints and a warning from 80 percent.
func mustPlan(o quota.PlanOptions) *quota.Plan {
	o.Endpoints, o.WarnAt = endpoints, 80
	p, err := quota.NewPlan(o)
	if err != nil {
		panic(err)
	}
	return p
}

var hundredAMonth = NewPlan("free", quota.Limit{Amount: 100, Period: quota.Month})

// threeAnHour allows three attempts at once, and one more every 20 minutes.
var threeAnHour = quota.AttemptLimit{Requests: 3, Per: time.Hour}

// allPeriodsPlan has a limit in every period.
func allPeriodsPlan(requests int64) *quota.Plan {
	var limits []quota.Limit
	for _, period := range quota.Periods() {
		limits = append(limits, quota.Limit{Amount: requests, Period: period})
	}
	return NewPlan("all periods", limits...)
}
