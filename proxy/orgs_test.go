package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/proxy/jwtauth"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/testkit"
)

// newOrgGateway starts a gateway with a plan team, whose members share a number of requests a month,
// and none to lookup. Each member may send a million.
func newOrgGateway(t *testing.T, shared int64, change ...func(*proxy.Options)) (*testGateway, *boltstore.Store) {
	t.Helper()
	store, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := newTestGateway(t, setup{store: store, change: func(o *proxy.Options) {
		o.Plans["team"] = newPlan("team", quota.Limit{Amount: 1_000_000, Period: quota.Month},
			quota.Limit{Amount: shared, Period: quota.Month, Shared: true}, quota.Limit{Period: quota.Month, Endpoint: "lookup", Shared: true})
		if o.Verifier, err = jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}, OrgClaim: "org"}); err != nil {
			t.Fatal(err)
		}
		for _, f := range change {
			f(o)
		}
	}})
	return r, store
}

// What one member gets says nothing of another one: neither their id nor their numbers are in any
// answer, header or event.
func TestMembersSeeNothingOfEachOther(t *testing.T) {
	var log logged
	r, store := newOrgGateway(t, 4, log.to(slog.LevelInfo))
	const other = "alice-of-acme"
	plans := r.handler.PlansFor("team")
	plans.Scope = quota.MemberScope
	_, err := store.ApplyChange(t.Context(), quota.MemberAccount("acme", other), plans,
		quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 31_337}})
	if err != nil {
		t.Fatal(err)
	}
	call := func(token, path string) reply {
		method := "POST"
		if strings.HasPrefix(path, "/api/lookup") || path == "/usage" {
			method = "GET"
		}
		return r.do(token, method, path, nil)
	}
	theirs, mine := testkit.MemberToken("acme", other, "team"), testkit.MemberToken("acme", "bob", "team")
	var got strings.Builder
	see := func(want int, res reply) {
		t.Helper()
		if res.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", res.Request.URL, res.StatusCode, res.body, want)
		}
		res.Header.Write(&got)
		got.WriteString(res.body)
	}
	s := r.stream(mine)
	fmt.Fprint(&got, s.usage())
	if res := call(theirs, "/api/analyze"); res.StatusCode != 200 || res.Header.Get("X-Usage") != "31338/1000000" {
		t.Fatalf("the other member: %d %v", res.StatusCode, res.Header)
	}
	see(200, call(mine, "/api/analyze"))
	see(200, call(mine, "/api/image-analysis"))
	if res := call(theirs, "/api/analyze"); res.StatusCode != 200 {
		t.Fatalf("the other member: %d", res.StatusCode)
	}
	refused := call(mine, "/api/analyze")
	see(429, refused)
	see(403, call(mine, "/api/lookup/1"))
	see(200, call(mine, "/usage"))
	see(200, call(mine, "/usage/track"))
	see(404, call(mine, "/usage/"+other))
	see(404, call(mine, "/nothing"))
	for {
		e, ok := s.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		got.WriteString(e.data)
		if strings.Contains(e.data, `"name":"shared-month","per":"month","shared":true,"used":4`) {
			break
		}
	}
	text := strings.ReplaceAll(got.String(), "/usage/"+other, "") // what bob asked for
	for _, word := range []string{other, "31337", "31338", "31339"} {
		if strings.Contains(text, word) {
			t.Errorf("bob was told %s:\n%s", word, text)
		}
	}
	for _, want := range []string{`"detail":"Your organisation has used its 4 requests of this month."`, `"violated-policies":["shared-month"]`, `"org":"acme"`} {
		if !strings.Contains(refused.body, want) {
			t.Errorf("the 429 is %s, want %s", refused.body, want)
		}
	}
	if policy := refused.Header.Get("RateLimit"); !strings.Contains(policy, `"shared-month";r=0;t=`) {
		t.Errorf("RateLimit: %s", policy)
	}
	if limit, usage := refused.Header.Get("X-RateLimit-Limit"), refused.Header.Get("X-Usage"); limit != "4" || usage != "2/1000000" {
		t.Errorf("X-RateLimit-Limit %s, X-Usage %s", limit, usage)
	}

	// The pool is that of the organisation alone.
	for _, token := range []string{testkit.MemberToken("other", "bob", "team"), testkit.Token("bob", "team")} {
		if res := call(token, "/api/analyze"); res.StatusCode != 200 || res.Header.Get("X-Usage") != "1/1000000" {
			t.Errorf("bob elsewhere: %d %v", res.StatusCode, res.Header)
		}
	}
	testkit.Eventually(t, "a line of each request", func() bool { return len(log.requests(t)) >= 12 })
	for _, line := range log.requests(t) {
		if org, hasOrg := line["org"]; hasOrg && org != "acme" && org != "other" || line["user"] == other && org != "acme" {
			t.Errorf("the log has %v", line)
		}
	}
}

// While other members make at least 1000 calls a second, a stream gets at most five events a second, and
// in the end the right number.
func TestStreamOfBusyOrganisationIsPaced(t *testing.T) {
	r, store := newOrgGateway(t, 1_000_000)
	start := time.Now()
	s := r.stream(testkit.MemberToken("acme", "bob", "team"))
	s.usage()

	plans := r.handler.PlansFor("team")
	plans.Scope = quota.MemberScope
	var calls atomic.Int64
	var stop atomic.Bool
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			user := quota.MemberAccount("acme", fmt.Sprint("other-", i))
			for !stop.Load() {
				d, err := store.Reserve(context.Background(), quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: plans, Lease: time.Minute})
				if err == nil && d.Admitted {
					_, err = store.Commit(context.Background(), &d.Reservation)
				}
				if err != nil || !d.Admitted {
					t.Errorf("admitted %v, error %v", d.Admitted, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); wait.Wait() })
	events, shown := 1, int64(0) // shown is what the last event says of the pool
	next := func() {
		t.Helper()
		u := s.usage()
		if u.Used != 0 {
			t.Fatalf("bob has used %d", u.Used)
		}
		events, shown = events+1, u.Limits[1].Used
	}
	// Go on until two seconds had 1000 calls each, or for 20 s on a machine that is too slow for that.
	second, before, busy := time.Now(), calls.Load(), 0
	for deadline := second.Add(20 * time.Second); busy < 2 && second.Before(deadline); {
		next()
		if took := time.Since(second); took >= time.Second {
			if made := calls.Load() - before; float64(made) >= 1000*took.Seconds() {
				busy++
			}
			second, before = time.Now(), calls.Load()
		}
	}
	stop.Store(true)
	wait.Wait()
	for shown != calls.Load() {
		next()
	}
	// The first event comes at once, and each further one 200 ms after the one before. Beside that, a
	// stream reads every ten seconds.
	elapsed := time.Since(start)
	if most := int(elapsed/(200*time.Millisecond)) + 1 + int(elapsed/(9*time.Second)); events > most {
		t.Errorf("%d events in %v, want at most %d", events, elapsed, most)
	}
	// On the slowest machine, too, there were far more calls than events.
	if n := calls.Load(); n < 20*int64(events) {
		t.Errorf("only %d calls, and %d events: the stream had nothing to pace", n, events)
	}

	// A member's own call shows at once.
	if res := r.do(testkit.MemberToken("acme", "bob", "team"), "POST", "/api/analyze", nil); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	if u := s.until(1, 0); u.Limits[1].Used != calls.Load()+1 {
		t.Errorf("after bob's own call: %+v", u.Limits)
	}
}
