package bench

import (
	"slices"
	"testing"
)

// checkMeters fails the test unless a proxy with a limit of three requests a user keeps to it. If it
// is to count successes only, requests that fail come in between.
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
	const succeeds, fails = "/api/analyze", "/api/analyze?status=500"
	if got := statuses("first", succeeds, succeeds, succeeds, succeeds, succeeds); !slices.Equal(got, []int{200, 200, 200, 429, 429}) {
		t.Fatalf("%s answers five requests with %v, want three times 200 and then 429", s.name, got)
	}
	if !successesOnly {
		return
	}
	if got := statuses("second", fails, succeeds, fails, succeeds, fails, succeeds, succeeds); !slices.Equal(got, []int{500, 200, 500, 200, 500, 200, 429}) {
		t.Fatalf("%s answers failures and successes in turn with %v, want three times 200 and then 429", s.name, got)
	}
}
