package proxy

import (
	"testing"
	"time"

	"metergate/quota"
)

// TestLimitDetailIsPlainEnglish: end users read it in a front end.
func TestLimitDetailIsPlainEnglish(t *testing.T) {
	for _, c := range []struct {
		limit         quota.Limit
		used, granted int64
		units         int64 // that the request may cost
		want          string
		held          int64
	}{
		{quota.Limit{Amount: 100, Period: quota.Month}, 100, 0, 1, "You have reached the limit of 100 requests per month on the free plan.", 0},
		{quota.Limit{Amount: 100, Period: quota.Month}, 150, 50, 1, "You have reached the limit of 150 requests per month on the free plan.", 0},
		{quota.Limit{Amount: 1, Period: quota.Minute}, 1, 0, 5, "You have reached the limit of 1 request per minute on the free plan.", 0},
		{quota.Limit{Amount: 20, Period: quota.Day, Endpoint: "image-analysis"}, 20, 0, 1, "You have reached the limit of 20 image-analysis requests per day on the free plan.", 0},
		{quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units}, 20, 0, 5, "You have reached the limit of 20 credits per month on the free plan.", 0},
		{quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units}, 18, 0, 5, "This request may cost 5 credits, and only 2 are left of the 20 per month on the free plan.", 0},
		{quota.Limit{Amount: 50000, Period: quota.Month, Shared: true}, 50000, 0, 1, "Your organisation has used its 50000 requests of this month.", 0},
		{quota.Limit{Amount: 20, Period: quota.Day, Endpoint: "image-analysis", Shared: true}, 25, 5, 1, "Your organisation has used its 25 image-analysis requests of this day.", 0},
		{quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units, Shared: true}, 18, 0, 5, "This request may cost 5 credits, and only 2 are left of the 20 per month that your organisation shares.", 0},
		{quota.Limit{Amount: 1000, Period: quota.Ever, Quantity: quota.Units}, 1500, 500, 1, "You have used your 1500 credits. They do not renew.", 0},
		{quota.Limit{Amount: 1000, Period: quota.Ever, Quantity: quota.Units}, 998, 0, 5, "This request may cost 5 credits, and only 2 are left of the 1000 on the free plan. They do not renew.", 0},
		{quota.Limit{Amount: 10, Period: quota.Ever, Endpoint: "image-analysis"}, 10, 0, 1, "You have used your 10 image-analysis requests. They do not renew.", 0},
		{quota.Limit{Amount: 1, Period: quota.Ever}, 1, 0, 1, "You have used your 1 request. It does not renew.", 0},
		{quota.Limit{Amount: 10, Period: quota.Ever, Shared: true}, 10, 0, 1, "Your organisation has used its 10 requests. They do not renew.", 0},
		{quota.Limit{Amount: 10, Period: quota.Ever, Shared: true, Quantity: quota.Units}, 8, 0, 5, "This request may cost 5 credits, and only 2 are left of the 10 that your organisation shares. They do not renew.", 0},
		{quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units}, 19, 0, 5, "This request may cost 5 credits, and only 1 is left of the 20 per month on the free plan.", 1},
		{quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units, Endpoint: "image-analysis"}, 18, 0, 5, "This request may cost 5 credits, and only 2 are left of the 20 image-analysis credits per month on the free plan.", 0},
		{quota.Limit{Amount: 1, Period: quota.Month, Quantity: quota.Units}, 1, 0, 1, "You have reached the limit of 1 credit per month on the free plan.", 0},
		// Running requests hold the rest, and may give some of it back.
		{quota.Limit{Amount: 100, Period: quota.Month}, 98, 0, 5, "You have 100 requests per month on the free plan: 98 are used, and running requests hold 2. Try again when one of them has finished.", 2},
		{quota.Limit{Amount: 1, Period: quota.Month}, 0, 0, 1, "You have 1 request per month on the free plan: 0 are used, and running requests hold 1. Try again when one of them has finished.", 1},
		{quota.Limit{Amount: 2, Period: quota.Day, Endpoint: "image-analysis"}, 1, 0, 1, "You have 2 image-analysis requests per day on the free plan: 1 is used, and running requests hold 1. Try again when one of them has finished.", 1},
		{quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units}, 2, 0, 5, "This request may cost 5 credits. You have 10 credits per month on the free plan: 2 are used, and running requests hold 8. Try again when one of them has finished.", 8},
		{quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units}, 2, 0, 5, "This request may cost 5 credits. You have 10 credits per month on the free plan: 2 are used, and running requests hold 4. Try again when one of them has finished.", 4},
		{quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units}, 2, 0, 1, "You have 10 credits per month on the free plan: 2 are used, and running requests hold 8. Try again when one of them has finished.", 8},
		{quota.Limit{Amount: 10, Period: quota.Ever, Quantity: quota.Units}, 5, 0, 5, "This request may cost 5 credits. You have 10 credits on the free plan: 5 are used, and running requests hold 5. Try again when one of them has finished.", 5},
		{quota.Limit{Amount: 4, Period: quota.Month, Shared: true}, 3, 0, 1, "Your organisation has 4 requests per month: 3 are used, and running requests hold 1. Try again when one of them has finished.", 1},
	} {
		p, err := quota.NewPlan(quota.PlanOptions{Name: "free", Limits: []quota.Limit{c.limit}, Endpoints: []string{"image-analysis"}, WarnAt: 80, UnitName: "credits"})
		if err != nil {
			t.Fatal(err)
		}
		counts := make([]quota.Count, len(p.Counters()))
		counts[0] = quota.Count{Used: c.used, Granted: c.granted, Held: c.held, Window: quota.Window{End: time.Time{}.Add(time.Hour)}}
		s := p.NewSnapshot(time.Time{}, counts)
		if got := limitDetail(&s, 0, c.units); got != c.want {
			t.Errorf("%+v, %d used, %d held: %q, want %q", c.limit, c.used, c.held, got, c.want)
		}
	}
}
