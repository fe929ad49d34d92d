package counting

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// watchUsage opens a stream of a user's usage and returns the usage objects that arrive
// on it.
func watchUsage(t testing.TB, p *gatewaytest.Process, token string) <-chan quota.Usage {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, _ := http.NewRequestWithContext(ctx, "GET", p.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("opening the stream: %v, error %v", res, err)
	}
	objects := make(chan quota.Usage, 100)
	go func() {
		defer res.Body.Close()
		defer close(objects)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var u quota.Usage
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(data), &u) == nil {
				objects <- u
			}
		}
	}()
	return objects
}

// A change that an operator makes at one gateway applies to the next request at every
// gateway, and the user's open streams show it on every gateway.
func TestAdminChangesReachGatewaysAndStreams(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t)
	one, two := gatewaytest.StartWithAdminAPI(t, redis.URL(), upstream.URL, gatewaytest.Patient), gatewaytest.StartWithAdminAPI(t, redis.URL(), upstream.URL, gatewaytest.Patient)
	token := testkit.Token("u/1", "free")
	streams := []<-chan quota.Usage{watchUsage(t, one, token), watchUsage(t, two, token)}
	pushed := func(what string, is func(quota.Usage) bool) {
		t.Helper()
		for i, stream := range streams {
			for waiting, timeout := true, time.After(60*time.Second); waiting; {
				select {
				case u, open := <-stream:
					if !open {
						t.Fatalf("%s: stream %d has ended", what, i)
					}
					waiting = !is(u)
				case <-timeout:
					t.Fatalf("%s: stream %d does not show it", what, i)
				}
			}
		}
	}
	call := func(p *gatewaytest.Process, want int) {
		t.Helper()
		if status := gatewaytest.Post(http.DefaultClient, p.URL+"/api/analyze", token); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
	const user = "/admin/users/u%2F1"
	pushed("nothing", func(u quota.Usage) bool { return u.Used == 0 && *u.Limit == 100 })
	gatewaytest.Administer(t, one, "PUT", user+"/counts", `{"per":"month","endpoints":{"analyze":100}}`)
	pushed("counts", func(u quota.Usage) bool { return u.Used == 100 && !u.Allowed })
	call(two, 429)
	gatewaytest.Administer(t, two, "POST", user+"/grants", `{"requests":1}`)
	pushed("a grant", func(u quota.Usage) bool { return *u.Limit == 101 && u.Allowed })
	call(one, 200)
	call(two, 429)
	gatewaytest.Administer(t, one, "PUT", user+"/plan", `{"plan":"enterprise"}`)
	pushed("a plan", func(u quota.Usage) bool { return u.Plan == "enterprise" && u.Limit == nil })
	call(two, 200)
	gatewaytest.Administer(t, two, "DELETE", user+"/plan", "")
	pushed("the plan's end", func(u quota.Usage) bool { return u.Plan == "free" && u.Used == 102 })
	call(one, 429)
	gatewaytest.Administer(t, one, "POST", user+"/reset", "")
	pushed("a reset", func(u quota.Usage) bool { return u.Used == 0 && *u.Limit == 101 })
	call(two, 200)

	var list struct{ Entries []quota.AuditEntry }
	if err := json.Unmarshal([]byte(gatewaytest.Administer(t, two, "GET", user+"/audit", "")), &list); err != nil || len(list.Entries) != 5 {
		t.Errorf("the audit log has %+v, error %v; want 5 entries", list.Entries, err)
	}
	for _, e := range list.Entries {
		if e.By != "127.0.0.1" || time.Since(e.At).Abs() > 10*time.Minute {
			t.Errorf("the audit log says %q made %+[3]v at %[2]v; want 127.0.0.1, now", e.By, e.At, e.Change)
		}
	}
	// The list is the same at each gateway. Its plan is that of the token.
	for _, p := range []*gatewaytest.Process{one, two} {
		if got, want := gatewaytest.Administer(t, p, "GET", "/admin/users?format=csv", ""), "user,plan,endpoint,used\r\nu/1,free,analyze,1\r\n"; got != want {
			t.Errorf("listed:\n%s\nwant:\n%s", got, want)
		}
	}
}
