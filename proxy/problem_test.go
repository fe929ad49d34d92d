package proxy

import (
	"testing"

	"metergate/quota"
)

// TestLimitDetailIsPlainEnglish: end users read it in a front end.
func TestLimitDetailIsPlainEnglish(t *testing.T) {
	for _, c := range []struct {
		limit     quota.Limit
		allowance int64 // with what was granted
		want      string
	}{
		{quota.Limit{Amount: 100, Period: quota.Month}, 100, "You have reached the limit of 100 requests per month on the free plan."},
		{quota.Limit{Amount: 100, Period: quota.Month}, 150, "You have reached the limit of 150 requests per month on the free plan."},
		{quota.Limit{Amount: 1, Period: quota.Minute}, 1, "You have reached the limit of 1 request per minute on the free plan."},
		{quota.Limit{Amount: 20, Period: quota.Day, Endpoint: "image-analysis"}, 20, "You have reached the limit of 20 image-analysis requests per day on the free plan."},
		{quota.Limit{Period: quota.Month}, 0, "The free plan does not include any requests."},
		{quota.Limit{Period: quota.Month, Endpoint: "image-analysis"}, 0, "The free plan does not include any image-analysis requests."},
	} {
		if got := limitDetail("free", c.limit, c.allowance); got != c.want {
			t.Errorf("%+v, %d allowed: %q, want %q", c.limit, c.allowance, got, c.want)
		}
	}
}
