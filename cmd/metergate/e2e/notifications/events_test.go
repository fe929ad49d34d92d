package notifications

import (
	"net/http"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// onEachStore runs a test on the embedded store with one gateway, and on Redis with two.
func onEachStore(t *testing.T, run func(t *testing.T, r *receiver, gateways ...*gatewaytest.Reloadable)) {
	t.Parallel() // they wait most of the time
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		r := startReceiver(t)
		run(t, r, start(t, "embedded:"+t.TempDir(), configuration(notifyAt(r.URL, secret, "[80, 100]"))))
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		r, redis := startReceiver(t), redistest.Start(t)
		text := configuration(notifyAt(r.URL, secret, "[80, 100]"))
		run(t, r, start(t, redis.URL(), text), start(t, redis.URL(), text))
	})
}

// A user with 100 requests a month is told of at the 80th and at the 100th.
func TestUserIsNotifiedOnceAtEachThreshold(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *receiver, gateways ...*gatewaytest.Reloadable) {
		token := testkit.Token("u-17", "free")
		call(t, 79, "/api/analyze", token, gateways...)
		call(t, 1, "/api/analyze", token, gateways...)
		const at80, at100 = "u-17: month at 80%, 80 of 100 requests", "u-17: month at 100%, 100 of 100 requests"
		r.mustGet(t, at80)
		call(t, 19, "/api/analyze", token, gateways...)
		call(t, 1, "/api/analyze", token, gateways...)
		r.mustGet(t, at80, at100)
		for _, g := range gateways {
			if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", token); status != 429 {
				t.Errorf("status %d above the limit", status)
			}
			mustBeSettled(t, g)
		}
		// A reset arms the thresholds again. The first request above one is told.
		gatewaytest.Administer(t, gateways[0].Process, "POST", "/admin/users/u-17/reset", "{}")
		call(t, 80, "/api/analyze", token, gateways...)
		r.mustGet(t, at80, at80, at100)
		if e := r.events[0]; e.Type != "usage.threshold" || e.Data.Plan != "free" || e.Data.Percent != 80 || e.Data.ResetsAt == nil || !strings.HasPrefix(e.ID, "msg_") || e.ID == r.events[2].ID {
			t.Errorf("%+v and %+v", e, r.events[2])
		}
	})
}

// Limits of an endpoint, soft ones, those on units and those of an organisation are told of as well.
func TestAllLimitsAreNotified(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *receiver, gateways ...*gatewaytest.Reloadable) {
		call(t, 8, "/api/image-analysis", testkit.Token("of-soft", "soft"), gateways[0]) // one after the other would do as well
		call(t, 19, "/api/image-analysis", testkit.Token("of-units", "units"), gateways[0])
		for i := range 8 {
			call(t, 1, "/api/analyze", testkit.MemberToken("acme", "member-"+string(rune('a'+i)), "team"), gateways...)
		}
		r.mustGet(t,
			"of-soft: image-analysis-month at 80%, 8 of 10 requests",
			"of-soft: month-soft at 80%, 4 of 5 requests", "of-soft: month-soft at 100%, 5 of 5 requests",
			"of-units: ever-units at 80%, 80 of 100 credits",
			"null of acme: shared-month at 80%, 8 of 10 requests")
		for _, e := range r.events {
			if (e.Data.ResetsAt == nil) != (e.Data.Limit == "ever-units") {
				t.Errorf("%v resets at %v", e, e.Data.ResetsAt)
			}
		}
		for _, g := range gateways {
			mustBeSettled(t, g)
		}
	})
}
