package upstream_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"metergate/proxy/upstream"
)

// byUser makes a pool of hosts with these weights; 0 leaves a host out.
func byUser(t testing.TB, weights map[string]int) *upstream.Pool {
	t.Helper()
	o := upstream.Options{Balance: upstream.ByUser}
	for url, weight := range weights {
		to := target(url)
		to.Weight = weight
		if weight > 0 {
			o.Targets = append(o.Targets, to)
		}
	}
	p, err := upstream.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a program in another language computes by the comment of rendezvous.go: the targets of a
// user and of the retry. All gateways, now and later, must agree on it.
func TestByUserIsThePublishedAlgorithm(t *testing.T) {
	const a, b, c = "http://10.0.0.1:9000", "http://10.0.0.2:9000", "https://api.example/v1"
	p := byUser(t, map[string]int{a: 19, b: 1, c: 5})
	for user, want := range map[string][2]string{
		"u-1": {a, c}, "u-2": {c, a}, "u-17": {a, c}, "alice@example.com": {c, a}, "\x1facme\x1fu-17": {a, c}, "ünï": {c, a},
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": {c, a}, "user-5": {a, b}, "user-6": {b, a}, "user-8": {b, a}, "user-25": {a, b}, "user-37": {b, a}, "user-38": {c, a},
	} {
		if first, second := p.TargetsFor(user); first != want[0] || second != want[1] {
			t.Errorf("%q goes to %s, then %s; want %v", user, first, second, want)
		}
	}
}

// assign returns the target of each of so many users, and how many each target has.
func assign(p *upstream.Pool, users int) (targets []string, count map[string]int) {
	count = map[string]int{}
	for i := range users {
		url := p.TargetFor(fmt.Sprint("user-", i))
		targets = append(targets, url)
		count[url]++
	}
	return targets, count
}

// Each target gets its share of the users, within 4 standard deviations.
func TestByUserFollowsWeights(t *testing.T) {
	for _, c := range []struct {
		users   float64
		weights map[string]int
	}{
		{100_000, map[string]int{"http://a": 95, "http://b": 5}},
		{100_000, map[string]int{"http://10.0.0.1:9000": 1, "http://10.0.0.2:9000": 2, "http://10.0.0.3:9000": 7}},
		{10_000, map[string]int{"http://a": 1, "http://b": 1, "http://c": 1, "http://d": 1, "http://e": 1, "http://f": 1, "http://g": 1, "http://h": 1, "http://i": 1}},
		{10_000, map[string]int{"http://a": 999, "http://b": 1}},
	} {
		users, weights, sum := c.users, c.weights, 0
		for _, w := range weights {
			sum += w
		}
		_, count := assign(byUser(t, weights), int(users))
		for url, w := range weights {
			share := float64(w) / float64(sum)
			want, deviation := users*share, math.Sqrt(users*share*(1-share))
			if got := float64(count[url]); math.Abs(got-want) > 4*deviation {
				t.Errorf("%v: %s has %v users, want %.0f±%.0f", weights, url, got, want, 4*deviation)
			}
		}
	}
}

// A change moves only the users it must: to a target that comes or gets a larger weight, and from
// one that goes or gets a smaller weight.
func TestByUserMovesOnlyWhatItMust(t *testing.T) {
	const a, b, c = "http://a", "http://b", "http://c"
	const users = 20_000
	before, _ := assign(byUser(t, map[string]int{a: 10, b: 10}), users)
	for name, change := range map[string]struct {
		weights  map[string]int
		from, to string // where users move; empty: any
		share    float64
	}{
		"a canary comes":         {map[string]int{a: 10, b: 10, c: 1}, "", c, 1. / 21},
		"a target comes":         {map[string]int{a: 10, b: 10, c: 10}, "", c, 1. / 3},
		"a weight is doubled":    {map[string]int{a: 20, b: 10}, b, a, 2./3 - 1./2},
		"a weight becomes small": {map[string]int{a: 10, b: 1}, b, a, 1./2 - 1./11},
		"a target goes":          {map[string]int{a: 10}, b, a, 1. / 2},
		"all weights double":     {map[string]int{a: 20, b: 20}, "none", "none", 0},
	} {
		after, _ := assign(byUser(t, change.weights), users)
		moved := 0
		for i := range before {
			if before[i] == after[i] {
				continue
			}
			moved++
			if change.from != "" && before[i] != change.from || change.to != "" && after[i] != change.to {
				t.Fatalf("%s: user-%d moved from %s to %s", name, i, before[i], after[i])
			}
		}
		want, deviation := users*change.share, math.Sqrt(users*change.share*(1-change.share))
		if math.Abs(float64(moved)-want) > 4*deviation {
			t.Errorf("%s: %d users moved, want %.0f±%.0f", name, moved, want, 4*deviation)
		}
	}
}

// For any targets, weights and users: the order of targets in a configuration does not matter, the
// target of a retry is the one that gets the user when the first is gone, and no user moves between
// two targets that did not change.
func TestByUserProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.MapOfN(rapid.StringMatching(`http://[a-z]{1,8}(:[1-9][0-9]{0,3})?(/v[0-9])?`), rapid.IntRange(1, 1000), 2, 12).Draw(rt, "weights")
		user := rapid.StringN(1, 40, 120).Draw(rt, "user")
		first, second := byUser(t, weights).TargetsFor(user)
		if first == "" || second == "" || first == second {
			rt.Fatalf("%q goes to %q, then %q", user, first, second)
		}
		if again, then := byUser(t, weights).TargetsFor(user); again != first || then != second {
			rt.Errorf("in another order it goes to %s, then %s; before to %s, then %s", again, then, first, second)
		}
		gone := rapid.SampledFrom(keys(weights)).Draw(rt, "gone")
		kept := weights[gone]
		weights[gone] = 0
		now := byUser(t, weights).TargetFor(user)
		if gone == first && now != second || gone != first && now != first {
			rt.Errorf("without %s it goes to %s; before to %s, then %s", gone, now, first, second)
		}
		weights[gone] = min(1000, kept+rapid.IntRange(0, 999).Draw(rt, "more"))
		if now := byUser(t, weights).TargetFor(user); now != first && now != gone {
			rt.Errorf("with a larger weight of %s it moves from %s to %s", gone, first, now)
		}
	})
}

func keys(m map[string]int) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// A user's requests go to the next target while theirs is unhealthy, ejected or drained, and come
// back. Other users stay where they are.
func TestByUserFollowsHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		p := n.pool(t, upstream.Options{Balance: upstream.ByUser, Ejection: upstream.Ejection{ServerErrors: 1}, Health: &upstream.Health{Path: "/healthz"}}, "a", "b", "c")
		p.Start()
		users := []string{}
		for i := range 60 {
			users = append(users, fmt.Sprint("user-", i))
		}
		home := map[string]string{}
		targets := func() map[string]string {
			got := map[string]string{}
			for _, user := range users {
				res, err := p.RoundTripFor(newRequest("GET", "/", ""), user, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				got[user] = string(bytes.TrimSpace(body))
			}
			return got
		}
		home = targets()
		check := func(when, out string) {
			t.Helper()
			for user, got := range targets() {
				switch {
				case home[user] != out && got != home[user]:
					t.Errorf("%s: %s moved from %s to %s", when, user, home[user], got)
				case home[user] == out && got == out:
					t.Errorf("%s: %s still goes to %s", when, user, got)
				}
			}
		}
		check("at first", "none")
		n.set("a", func(h *host) { h.health = 500 })
		time.Sleep(20 * time.Second)
		check("a is unhealthy", "a")
		n.set("a", func(h *host) { h.health = 200 })
		time.Sleep(30 * time.Second) // slow start included
		check("a is healthy again", "none")
		drain(t, p, "http://b")
		check("b is drained", "b")
		p.Undrain("http://b", upstream.Drain{})
		time.Sleep(20 * time.Second)
		check("b is undrained", "none")
		n.set("c", func(h *host) { h.status = 500 })
		for _, user := range users {
			if home[user] == "c" {
				res, err := p.RoundTripFor(newRequest("GET", "/", ""), user, nil)
				if err != nil || res.StatusCode != 500 {
					t.Fatal(res, err)
				}
				res.Body.Close()
				break
			}
		}
		check("c is ejected", "c")

		// A connection that fails costs nothing: the request is retried on the next target.
		n.set("c", func(h *host) { h.status = 200 })
		time.Sleep(time.Hour)
		targets() // one of these requests is the trial
		time.Sleep(20 * time.Second)
		check("after the ejection", "none")
		p.Retire() // no idle connection is left
		n.set("c", func(h *host) { h.up = false })
		check("c cannot be reached", "c")

		// A request without a user goes anywhere.
		got := map[string]bool{}
		for range 50 {
			got[want(t, p, newRequest("GET", "/", ""))] = true
		}
		if !got["a"] || !got["b"] {
			t.Errorf("requests without a user went to %v", got)
		}
	})
}

// After a reload and on another gateway, users go to the same targets.
func TestByUserIsStable(t *testing.T) {
	weights := map[string]int{"http://a": 3, "http://b": 1}
	first := byUser(t, weights)
	before, _ := assign(first, 1000)
	second := byUser(t, weights)
	second.AdoptState(first)
	first.Retire()
	after, _ := assign(second, 1000)
	for i := range before {
		if before[i] != after[i] {
			t.Fatalf("user-%d moved from %s to %s", i, before[i], after[i])
		}
	}
}

// The other balances do not look at the user.
func TestUserCostsNothingWithOtherBalances(t *testing.T) {
	for _, balance := range []upstream.Balance{upstream.LeastInFlight, upstream.RoundRobin} {
		p := newPool(t, upstream.Options{Balance: balance}, "http://a", "http://b")
		p.AnswerAll(answerer{&http.Response{StatusCode: 200, Body: http.NoBody}})
		run := func(user string) float64 {
			return testing.AllocsPerRun(200, func() {
				res, err := p.RoundTripFor(newRequest("GET", "/", ""), user, nil)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
			})
		}
		if with, without := run("u-17"), run(""); with != without {
			t.Errorf("%v allocations with a user, %v without", with, without)
		}
	}
}
