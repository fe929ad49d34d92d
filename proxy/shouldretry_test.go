package proxy_test

import (
	"net/http"
	"testing"

	"metergate/proxy"
	"metergate/quota"
)

// TestLongRetryAfterSaysNotToRetry: a 429 that is good for longer than a minute says that
// a client must not retry. A shorter one, any other answer, and what an upstream says
// stay as they are.
func TestLongRetryAfterSaysNotToRetry(t *testing.T) {
	r := newTestGateway(t, setup{
		store:  storeAt(t, midMonth),
		routes: []proxy.Route{{Pattern: "POST /shed"}},
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				w.Header().Set("X-Should-Retry", r.URL.RawQuery)
				w.WriteHeader(503)
			}
		},
		change: func(o *proxy.Options) {
			o.Plans["month"] = newPlan("month", quota.Limit{Amount: 1, Period: quota.Month})
			o.Plans["minute"] = newPlan("minute", quota.Limit{Amount: 1, Period: quota.Minute})
			o.Plans["tries"] = triesPlan() // one attempt comes back every 20 minutes
		},
	})
	for _, c := range []struct {
		plan, path string
		status     int
		want       string
	}{
		{"month", "/api/analyze", 429, "false"},
		{"tries", "/api/analyze", 429, "false"},
		{"minute", "/api/analyze", 429, ""},
		{"enterprise", "/api/analyze?true", 503, "true"},
		{"enterprise", "/shed?false", 503, "false"},
		{"enterprise", "/api/analyze", 200, ""},
	} {
		tok := token(c.plan, c.plan)
		res := r.do(tok, "POST", c.path, nil)
		for c.status == 429 && res.StatusCode == 200 {
			res = r.do(tok, "POST", c.path, nil)
		}
		if got := res.Header.Get("X-Should-Retry"); got != c.want || res.StatusCode != c.status {
			t.Errorf("%s %s: %s, Retry-After %q, X-Should-Retry %q, want %q", c.plan, c.path, res.Status, res.Header.Get("Retry-After"), got, c.want)
		}
	}
}
