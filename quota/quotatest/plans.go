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
	p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		panic(err)
	}
	return p
}

// NewObservingPlan is NewAttemptLimitedPlan for a plan in observe mode.
func NewObservingPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Observe: true, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		panic(err)
	}
	return p
}

var hundredAMonth = NewPlan("free", quota.Limit{Requests: 100, Period: quota.Month})

// threeAnHour allows three attempts at once, and one more every 20 minutes.
var threeAnHour = quota.AttemptLimit{Requests: 3, Per: time.Hour}

// allPeriodsPlan has a limit in every period.
func allPeriodsPlan(requests int64) *quota.Plan {
	var limits []quota.Limit
	for _, period := range quota.Periods() {
		limits = append(limits, quota.Limit{Requests: requests, Period: period})
	}
	return NewPlan("all periods", limits...)
}
