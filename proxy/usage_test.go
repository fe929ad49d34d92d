package proxy_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestUsageAPIDoesNotWaitForBody: the gateway's own resources do not wait for a body that
// they do not need.
func TestUsageAPIDoesNotWaitForBody(t *testing.T) {
	r := newTestGateway(t, setup{})
	r.handler.SetBounds(time.Minute, time.Minute)
	for line, status := range map[string]int{"POST /usage/track": 200, "GET /usage": 200, "GET /usage/client.js": 200, "GET /usage/stream": 400} {
		conn := r.dial()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\nhalf", line, token("u", ""))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != status || !res.Close {
			t.Errorf("%s: %v, error %v", line, res, err)
		}
	}
}

func TestPlanIsClaimedOrDefault(t *testing.T) {
	r := newTestGateway(t, setup{})
	for claim, want := range map[string]string{"": "free", "one": "one", "no such plan": "free", "enterprise": "enterprise"} {
		if u := r.usage("u", claim); u.Plan != want {
			t.Errorf("claim %q: plan %q, want %q", claim, u.Plan, want)
		}
	}
}

func TestTrackCountsNothing(t *testing.T) {
	r := newTestGateway(t, setup{})
	for range 3 {
		res := r.do(token("u", ""), "POST", "/usage/track", strings.NewReader(`{"endpoint":"analyze"}`))
		if res.StatusCode != 200 || res.Header.Get("Deprecation") != "@1796083200" || !strings.Contains(res.body, `"used":0`) {
			t.Errorf("%s, Deprecation %q: %s", res.Status, res.Header.Get("Deprecation"), res.body)
		}
	}
	if n := len(r.requests()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
