package upstream_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"metergate/proxy/upstream"
)

// weighted starts targets that answer with the letters a, b, c...
func weighted(t testing.TB, weights ...int) (targets []upstream.Target) {
	for i, w := range weights {
		name := string(rune('a' + i))
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) })
		to := target(s.URL)
		to.Weight = w
		targets = append(targets, to)
	}
	return targets
}

// A canary of 5 % gets 500 of 10,000 sequential requests, with a standard deviation of
// 22. A result more than 6 standard deviations away happens once in 5·10⁸ runs.
func TestLeastInFlightFollowsWeights(t *testing.T) {
	p := newPool(t, upstream.Options{Targets: weighted(t, 95, 5)})
	canary := 0
	for range 10_000 {
		if want(t, p, newRequest("GET", "/", "")) == "b" {
			canary++
		}
	}
	if canary < 500-131 || canary > 500+131 {
		t.Errorf("the canary got %d of 10,000, want 500±131", canary)
	}
}

// Under load a canary may get more than its share, but at most twice as much: it is not
// drawn more often.
func TestLeastInFlightBoundsCanaryUnderLoad(t *testing.T) {
	p := newPool(t, upstream.Options{Targets: weighted(t, 95, 5)})
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		canary int
	)
	for range 16 {
		wg.Go(func() {
			for range 500 {
				_, body, err := send(p, newRequest("GET", "/", ""))
				mu.Lock()
				if err != nil {
					t.Error(err)
				}
				if body == "b" {
					canary++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%.1f %%", float64(canary)/80)
	if canary < 8000*1/100 || canary > 800+6*27 {
		t.Errorf("the canary got %d of 8,000, want some, and at most 800+162", canary)
	}
}

func TestLeastInFlightAvoidsBusyTarget(t *testing.T) {
	for n := 2; n <= 5; n++ {
		weights := make([]int, n)
		p := newPool(t, upstream.Options{Targets: weighted(t, weights...)})
		busy, err := p.RoundTrip(newRequest("GET", "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		name, _ := io.ReadAll(busy.Body)
		seen := map[string]bool{}
		for range 300 {
			seen[want(t, p, newRequest("GET", "/", ""))] = true
		}
		if seen[string(name)] || len(seen) != n-1 {
			t.Errorf("of %d targets %s has a request in flight, but the next went to %v", n, name, seen)
		}
		busy.Body.Close()
		for range 300 {
			seen[want(t, p, newRequest("GET", "/", ""))] = true
		}
		if len(seen) != n {
			t.Errorf("of %d idle targets %v got requests", n, seen)
		}
	}
}

// Requests in flight count relative to the weight: 2 of 3 is less than 1 of 1.
func TestLeastInFlightDividesByWeight(t *testing.T) {
	p := newPool(t, upstream.Options{Targets: weighted(t, 3, 1)})
	for need := map[string]int{"a": 2, "b": 1}; need["a"]+need["b"] > 0; {
		res, err := p.RoundTrip(newRequest("GET", "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		name, _ := io.ReadAll(res.Body)
		if need[string(name)]--; need[string(name)] >= 0 {
			defer res.Body.Close()
		} else {
			need[string(name)] = 0
			res.Body.Close()
		}
	}
	for range 100 {
		if want(t, p, newRequest("GET", "/", "")) == "b" {
			t.Fatal("the busier target was picked")
		}
	}
}

// A request is in flight until its response body is closed.
func TestInFlightEndsWithClose(t *testing.T) {
	p := newPool(t, upstream.Options{}, serve(t, nil).URL)
	inFlight := func(n int) {
		t.Helper()
		if got := p.Targets()[0].InFlight; got != n {
			t.Errorf("in flight: %d, want %d", got, n)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		res, err := p.RoundTrip(newRequest(method, "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		io.ReadAll(res.Body)
		inFlight(1)
		res.Body.Close()
		res.Body.Close()
		inFlight(0)
	}
}

// The sequences are from the message of the nginx commit that introduced the method:
// "{ 5, 1, 1 } gives a, a, b, a, c, a, a".
func TestRoundRobinIsSmooth(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    string
	}{
		{[]int{5, 1, 1}, "aabacaa aabacaa"},
		{[]int{0, 1, 1}, "abc abc"},
		{[]int{1000}, "aaa"},
	} {
		p := newPool(t, upstream.Options{Balance: upstream.RoundRobin, Targets: weighted(t, c.weights...)})
		got := ""
		for range strings.ReplaceAll(c.want, " ", "") {
			got += want(t, p, newRequest("GET", "/", ""))
		}
		if want := strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("%v: %s, want %s", c.weights, got, want)
		}
	}
}

// With concurrent requests the shares are still exact.
func TestRoundRobinIsExactConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b")
		p := n.pool(t, upstream.Options{Balance: upstream.RoundRobin}, "a", "b")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					want(t, p, newRequest("GET", "/", ""))
				}
			})
		}
		wg.Wait()
		for _, name := range []string{"a", "b"} {
			if _, gets := n.counts(name); gets != 200 {
				t.Errorf("%s got %d of 400", name, gets)
			}
		}
	})
}
