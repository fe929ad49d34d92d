package proxy_test

import (
	"context"
	"fmt"
	"testing"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/boltstore"
)

// TestAdminChangesApplyToNextRequest: what an administrator changes applies to the next
// request, in everything that the client and the upstream are told, and open streams show
// it.
func TestAdminChangesApplyToNextRequest(t *testing.T) {
	store, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := newTestGateway(t, setup{store: store, routes: []proxy.Route{{Pattern: "POST /who", Endpoint: "lookup", PlanHeader: "X-User-Plan"},
		{Pattern: "GET /who", PlanHeader: "X-User-Plan"}}})
	change := func(c quota.Change) {
		t.Helper()
		if _, err := store.ApplyChange(context.Background(), "u", quota.PlanChoice{Claimed: r.plans["one"], ByName: r.plans}, c); err != nil {
			t.Fatal(err)
		}
	}
	tok := token("u", "one")
	s := r.stream(tok)
	if u := s.usage(); u.Plan != "one" || *u.Limit != 1 {
		t.Errorf("plan %s, limit %d", u.Plan, *u.Limit)
	}
	call := func(status int, usage, plan string) {
		t.Helper()
		res := r.do(tok, "POST", "/who", nil)
		if got := res.Header.Get("X-Usage"); res.StatusCode != status || got != usage {
			t.Errorf("status %d, usage %s; want %d, %s", res.StatusCode, got, status, usage)
		}
		sent := r.requests()
		if got := sent[len(sent)-1].Header.Get("X-User-Plan"); got != plan {
			t.Errorf("the upstream is told the plan %q, want %q", got, plan)
		}
	}
	call(200, "1/1", "one")
	call(429, "1/1", "one")

	change(quota.Change{Action: quota.ActionGrant, Requests: 2})
	for {
		if u := s.until(1, 0); *u.Limit == 3 {
			break
		}
	}
	call(200, "2/3", "one")
	res := r.do(tok, "POST", "/who", nil)
	for name, want := range map[string]string{"X-Ratelimit-Limit": "3", "X-Ratelimit-Remaining": "0",
		"Ratelimit-Policy": fmt.Sprintf(`"month";q=3;w=%d`, r.usage("u", "one").Period.End.Unix()-r.usage("u", "one").Period.Start.Unix())} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	call(429, "3/3", "one")

	change(quota.Change{Action: quota.ActionSetPlan, Plan: "enterprise"})
	for {
		if u := s.usage(); u.Plan == "enterprise" {
			break
		}
	}
	call(200, "4/unlimited", "enterprise")
	// A request that is not metered also tells the upstream the plan that applies.
	r.do(tok, "GET", "/who", nil)
	if sent := r.requests(); sent[len(sent)-1].Method != "GET" || sent[len(sent)-1].Header.Get("X-User-Plan") != "enterprise" {
		t.Errorf("the upstream is told the plan %q", sent[len(sent)-1].Header.Get("X-User-Plan"))
	}
	if u := r.usage("u", "one"); u.Plan != "enterprise" || u.Limit != nil || u.Used != 4 {
		t.Errorf("usage %+v", u)
	}
	change(quota.Change{Action: quota.ActionClearPlan})
	call(429, "4/3", "enterprise") // of the last request that the upstream saw

	change(quota.Change{Action: quota.ActionReset})
	for {
		if u := s.usage(); u.Plan == "one" && u.Used == 0 {
			break
		}
	}
	call(200, "1/3", "one")
}
