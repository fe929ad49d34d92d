package bench

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/quota/testkit"
)

// checkMeters fails the test unless a proxy with a limit of three requests a user keeps to it. If it
// is to count successes only, requests that fail or get no response come in between.
func checkMeters(t testing.TB, s *server, successesOnly bool) {
	t.Helper()
	c := &caller{address: s.address}
	defer c.hangUp()
	statuses := func(user string, paths ...string) (got []int) {
		for _, path := range paths {
			status, err := c.call(loadRequest(user, path))
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			got = append(got, status)
		}
		return got
	}
	const succeeds, fails, breaks = "/api/analyze", "/api/analyze?status=500", "/api/analyze?abort=1"
	if got := statuses("first", succeeds, succeeds, succeeds, succeeds, succeeds); !slices.Equal(got, []int{200, 200, 200, 429, 429}) {
		t.Fatalf("%s answers five requests with %v, want three times 200 and then 429", s.name, got)
	}
	if !successesOnly {
		return
	}
	if got := statuses("second", fails, succeeds, fails, succeeds, fails, succeeds, succeeds); !slices.Equal(got, []int{500, 200, 500, 200, 500, 200, 429}) {
		t.Fatalf("%s answers failures and successes in turn with %v, want three times 200 and then 429", s.name, got)
	}
	if got := statuses("third", breaks, succeeds, breaks, succeeds, breaks, succeeds, succeeds); !slices.Equal(got, []int{502, 200, 502, 200, 502, 200, 429}) {
		t.Fatalf("%s answers requests without a response and successes in turn with %v, want three times 200 and then 429", s.name, got)
	}
}

// checkGivesBack fails the test unless a proxy with a limit of three requests a user gives back those
// whose clients hang up before there is a response.
func checkGivesBack(t testing.TB, s *server) {
	t.Helper()
	const waits, fails = "/api/analyze?wait=1m", "/api/analyze?status=500"
	var callers [4]caller // one more than fit, so that the others are known to be under way
	type answer struct{ caller, status int }
	answers := make(chan answer, len(callers))
	for i := range callers {
		callers[i].address = s.address
		if err := callers[i].send(loadRequest("hangs up", waits)); err != nil {
			t.Fatal(err)
		}
		go func() {
			status, _ := callers[i].receive()
			answers <- answer{i, status}
		}()
	}
	denied := <-answers
	for i := range callers {
		if i != denied.caller {
			callers[i].conn.Close()
			<-answers
		}
	}
	callers[denied.caller].hangUp()
	if denied.status != 429 {
		t.Fatalf("%s answers %d while three requests are under way, want 429", s.name, denied.status)
	}
	probe := &caller{address: s.address}
	defer probe.hangUp()
	status := 0
	for deadline := time.Now().Add(20 * time.Second); status != 500; time.Sleep(time.Millisecond) {
		if status, _ = probe.call(loadRequest("hangs up", fails)); time.Now().After(deadline) {
			t.Fatalf("%s answers %d after the clients hung up, want 500 from the upstream", s.name, status)
		}
	}
}

// checkVerifies fails the test unless a proxy refuses tokens that have expired or are badly signed.
func checkVerifies(t testing.TB, s *server) {
	t.Helper()
	c := &caller{address: s.address}
	defer c.hangUp()
	expires := func(in time.Duration) string {
		return testkit.SignedToken(jwt.MapClaims{"sub": "fourth", "exp": time.Now().Add(in).Unix()})
	}
	valid := expires(time.Hour)
	for _, check := range []struct {
		name, token string
		want        int
	}{
		{"a valid token", valid, 200},
		{"an expired token", expires(-time.Hour), 401},
		{"a token with the signature of another", valid[:strings.LastIndexByte(valid, '.')] + expires(2 * time.Hour)[strings.LastIndexByte(valid, '.'):], 401},
	} {
		if got, err := c.call(requestWithToken(check.token, "/api/analyze")); got != check.want {
			t.Fatalf("%s answers %s with %d (%v), want %d", s.name, check.name, got, err, check.want)
		}
	}
}
