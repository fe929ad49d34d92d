package counting

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// An organisation may use 100 requests and each member 10. Of 1000 requests of 50 members at once
// through two gateways, exactly 100 pass, and no member has more than 10.
func TestOrganisationsAdmitExactlyTheirNumber(t *testing.T) {
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer upstream.Close()
	redis := redistest.Start(t)
	start := func() *gatewaytest.Process {
		return gatewaytest.StartWithOrganisations(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	}
	gateways := []*gatewaytest.Process{start(), start()}
	client := gatewaytest.NewClient(t)
	for round := range 20 {
		sent.Store(0)
		org := fmt.Sprint("org-", round)
		var passed, refused [50]atomic.Int64
		var wait sync.WaitGroup
		for i := range 1000 {
			wait.Go(func() {
				member := i % 50
				switch status := callAsMember(t, client, gateways[i/50%2].URL, org, member); status {
				case 200:
					passed[member].Add(1)
				case 429:
					refused[member].Add(1)
				default:
					t.Errorf("status %d", status)
				}
			})
		}
		wait.Wait()
		sum := int64(0)
		for member := range passed {
			n := passed[member].Load()
			if sum += n; n > 10 || n+refused[member].Load() != 20 {
				t.Errorf("round %d: member %d: %d passed, %d were refused", round, member, n, refused[member].Load())
			}
		}
		if sum != 100 || sent.Load() != 100 {
			t.Fatalf("round %d: %d passed, %d reached the upstream; want 100", round, sum, sent.Load())
		}
		for _, g := range gateways {
			u := gatewaytest.Usage(t, g, memberToken(org, 0))
			if u.Used != passed[0].Load() || u.InFlight != 0 || u.Org != org || u.Limits[1].Name != "shared-month" || u.Limits[1].Used != 100 {
				t.Fatalf("round %d: usage %+v", round, u)
			}
			var pool quota.Usage
			if err := json.Unmarshal([]byte(gatewaytest.Administer(t, g, "GET", "/admin/orgs/"+org, "")), &pool); err != nil || pool.Used != 100 || pool.InFlight != 0 {
				t.Fatalf("round %d: the organisation has used %+v, error %v", round, pool, err)
			}
			list := gatewaytest.Administer(t, g, "GET", "/admin/orgs/"+org+"/members", "")
			listed := int64(0)
			for line := range strings.Lines(list) {
				var m struct{ Used int64 }
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					t.Fatal(err)
				}
				listed += m.Used
			}
			if listed != 100 {
				t.Fatalf("round %d: the members have used %d, want 100", round, listed)
			}
		}
	}
}

func memberToken(org string, member int) string {
	return testkit.MemberToken(org, fmt.Sprint("member-", member), "team")
}

func callAsMember(t *testing.T, client *http.Client, url, org string, member int) (status int) {
	req, err := http.NewRequest("POST", url+"/api/analyze", nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+memberToken(org, member))
	res, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// In an outage, members are counted in the journal of their gateway, for themselves and for their
// organisation. The gateway is killed, and the next one on the journal counts them once. Then exactly
// what is left of the pool is admitted.
func TestOrganisationsInOutage(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	dies := gatewaytest.StartWithOrganisations(t, redis.URL(), upstream.URL, "ON_FAILURE=allow", gatewaytest.Patient)
	other := gatewaytest.StartWithOrganisations(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	client := gatewaytest.NewClient(t)
	call := func(g *gatewaytest.Process) {
		t.Helper()
		for member := range 5 {
			if status := callAsMember(t, client, g.URL, "acme", member); status != 200 {
				t.Fatalf("member %d: status %d", member, status)
			}
		}
	}
	call(other)
	call(dies)
	redis.Kill()
	call(dies)
	if u := gatewaytest.Usage(t, dies, memberToken("acme", 0)); !u.Stale || u.Used != 3 || u.Limits[1].Used != 15 {
		t.Errorf("in the outage: %+v", u)
	}
	dies.Kill()
	redis.Start()
	dies.Restart()
	testkit.EventuallyWithin(t, time.Minute, "everything is counted", func() bool {
		u := gatewaytest.Usage(t, other, memberToken("acme", 0))
		return !u.Stale && u.InFlight == 0 && u.Limits[1].Used == 15
	})
	for member := range 5 {
		if u := gatewaytest.Usage(t, other, memberToken("acme", member)); u.Used != 3 {
			t.Errorf("member %d has used %d, want 3", member, u.Used)
		}
	}
	var passed atomic.Int64
	var wait sync.WaitGroup
	for i := range 400 {
		wait.Go(func() {
			if callAsMember(t, client, other.URL, "acme", 5+i%40) == 200 {
				passed.Add(1)
			}
		})
	}
	wait.Wait()
	if passed.Load() != 85 {
		t.Errorf("afterwards %d passed, want 85", passed.Load())
	}
}
