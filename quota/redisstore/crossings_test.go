package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// notifyingTen allows 10 requests a month, and the members of an organisation 10 together.
var notifyingTen = notifying(quota.Limit{Amount: 10, Period: quota.Month}, quota.Limit{Amount: 10, Period: quota.Month, Shared: true})

// notifying returns a plan with thresholds at 80 and 100 percent.
func notifying(limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: "p", Limits: limits, Endpoints: []string{"analyze", "report"}, WarnAt: 80, NotifyAt: []int{80, 100}})
	if err != nil {
		panic(err)
	}
	return p
}

// reserveBy reserves by a plan where nothing is in the way.
func reserveBy(t testing.TB, s *Store, p *quota.Plan, user string) *quota.Reservation {
	t.Helper()
	r := requestBy(p, user)
	r.Plans.Scope = quota.ScopeOf(user)
	d, err := s.Reserve(ctx, r)
	if err != nil || !d.Admitted {
		t.Fatalf("%q: admitted %v, error %v", user, d.Admitted, err)
	}
	return &d.Reservation
}

// useBy makes n requests that succeed.
func useBy(t testing.TB, s *Store, p *quota.Plan, user string, n int) {
	t.Helper()
	for range n {
		mustCommit(t, s, reserveBy(t, s, p, user))
	}
}

func mustCommit(t testing.TB, s *Store, r *quota.Reservation) {
	t.Helper()
	if _, err := s.Commit(ctx, r); err != nil {
		t.Fatalf("%q: %v", r.User, err)
	}
}

// wantCrossings compares the crossings of an account: "THRESHOLD USED/ALLOWANCE" each.
func wantCrossings(t testing.TB, s *Store, account string, want ...string) (ids []string) {
	t.Helper()
	crossings, err := s.CrossingsOf(ctx, account)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range crossings {
		got, ids = append(got, fmt.Sprintf("%d %d/%d", c.Threshold, c.Used, c.Allowance)), append(ids, c.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the crossings of %q are %q, want %q", account, got, want)
	}
	return ids
}

// listed returns the accounts in the index.
func listed(t testing.TB, s *Store) []string {
	t.Helper()
	due, _ := script.ClaimsKeys(s.prefix)
	accounts, err := commands(s).ZRange(ctx, due, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(accounts)
	return accounts
}

// waiting returns how many accounts are known to have crossings.
func waiting(t testing.TB, s *Store) int64 {
	t.Helper()
	claims, err := s.ClaimCrossings(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	return claims.Waiting
}

// claimAll claims all accounts that are due.
func claimAll(t testing.TB, s *Store) map[string]quota.CrossingClaim {
	t.Helper()
	found, err := s.ClaimCrossings(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]quota.CrossingClaim{}
	for _, c := range found.Claims {
		claims[c.Account] = c
	}
	return claims
}

func endClaim(t testing.TB, s *Store, c quota.CrossingClaim, again time.Duration) {
	t.Helper()
	if err := s.EndClaim(ctx, c, again); err != nil {
		t.Fatal(err)
	}
}

// dropRecorded has a proxy keep from Redis what a gateway says of crossings after it has heard of them: it
// dies just then.
func dropRecorded(p *redistest.FaultProxy) {
	p.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if isRecorded(cmd) {
			return redistest.Cut
		}
		return redistest.Pass
	})
}

// isCut reports whether a call failed because its connection was cut.
func isCut(err error) bool {
	var broken *quota.BrokenConnectionError
	return errors.As(err, &broken)
}

// isRecorded reports whether a command puts accounts into the index of which a crossing was recorded.
func isRecorded(cmd redistest.Command) bool {
	if cmd.Script() != redistest.Claims || cmd[6] != "list" {
		return false
	}
	for i := 8; i < len(cmd); i += 2 {
		if cmd[i] != "0" {
			return true
		}
	}
	return false
}

// A gateway that dies after the commit, before it knows of the crossing or right after that, leaves it to others.
func TestCrossingOfAGatewayThatDies(t *testing.T) {
	for _, user := range []string{"u", quota.MemberAccount("acme", "u")} {
		server := redistest.Start(t)
		network := redistest.StartFaultProxy(t, server.Addr)
		clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
		dies, other := openAt(t, network.URL(), clock), openAt(t, server.URL(), clock)
		useBy(t, dies, notifyingTen, user, 7)
		if got := listed(t, other); len(got) > 0 {
			t.Errorf("%v are in the index long before a threshold", got)
		}
		dropRecorded(network)
		useBy(t, dies, notifyingTen, user, 1)
		network.RefuseConnections(true)
		network.CutConnections()
		dies.Close()
		accounts := []string{user}
		if pool := quota.PoolOf(user); pool != "" {
			accounts = append(accounts, pool)
		}
		clock.Advance(15 * time.Second)
		claims := claimAll(t, other)
		for _, account := range accounts {
			ids := wantCrossings(t, other, account, "80 8/10")
			if err := other.EndCrossings(ctx, account, ids); err != nil || claims[account].Token == 0 {
				t.Errorf("%q was claimed: %v, error %v", account, claims, err)
			}
			endClaim(t, other, claims[account], 0)
		}
		// It is looked at once more, and then no more.
		clock.Advance(15 * time.Second)
		for _, c := range claimAll(t, other) {
			endClaim(t, other, c, 0)
		}
		if got := listed(t, other); len(got) > 0 {
			t.Errorf("the index still has %q", got)
		}
	}
}

// A gateway that dies between the reservation and the commit leaves nothing.
func TestGatewayDiesBeforeItsCommit(t *testing.T) {
	url := redistest.Start(t).URL()
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	dies, other := openAt(t, url, clock), openAt(t, url, clock)
	useBy(t, dies, notifyingTen, "u", 7)
	reserveBy(t, dies, notifyingTen, "u") // for a minute
	dies.Close()
	looks := 0
	for range 12 {
		clock.Advance(11 * time.Second)
		for _, c := range claimAll(t, other) {
			looks++
			endClaim(t, other, c, 0)
		}
	}
	if got := listed(t, other); len(got) > 0 || looks < 6 || looks > 8 {
		t.Errorf("after %d looks, the index has %q", looks, got)
	}
	wantCrossings(t, other, "u")
}

// A hold that is gone may have been the last one before a threshold: its account is in the index before it
// is counted.
func TestUnheldCommitIsInTheIndexFirst(t *testing.T) {
	for name, settle := range map[string]func(s *Store, r *quota.Reservation) error{
		"commit":    func(s *Store, r *quota.Reservation) error { _, err := s.Commit(ctx, r); return err },
		"unchecked": func(s *Store, r *quota.Reservation) error { r.Unchecked = true; _, err := s.Commit(ctx, r); return err },
		"replay": func(s *Store, r *quota.Reservation) error {
			return s.Replay(ctx, r.User, []quota.Reservation{*r}, nil)
		},
		"rest": func(s *Store, r *quota.Reservation) error {
			r.Units, r.Unused, r.Rest, r.RestCharged = 2, 2, 2, 1
			_, err := s.CommitRest(ctx, r)
			return err
		},
		"change": func(s *Store, r *quota.Reservation) error {
			_, err := s.ApplyChange(ctx, r.User, r.Plans, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 8}})
			if isCut(err) { // it reads afterwards
				return nil
			}
			return err
		},
	} {
		server := redistest.Start(t)
		network := redistest.StartFaultProxy(t, server.Addr)
		clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
		s, other := openAt(t, network.URL(), clock), openAt(t, server.URL(), clock)
		p := notifying(quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units})
		late := reserveBy(t, s, p, "u")
		useBy(t, s, p, "u", 6)
		clock.Advance(2 * time.Minute)
		useBy(t, s, p, "u", 1)
		if got := listed(t, other); len(got) > 0 {
			t.Errorf("%s: %v are in the index before", name, got)
		}
		dropRecorded(network)
		if err := settle(s, late); err != nil {
			t.Fatal(name, err)
		}
		wantCrossings(t, other, "u", "80 8/10")
		if got := listed(t, other); !slices.Equal(got, []string{"u"}) {
			t.Errorf("%s: the index has %q", name, got)
		}
	}
}

// However many requests run at once on two gateways, an account with a crossing was in the index before. Nothing fails
// here: an account that Redis did not put there at once may be there only after its crossing.
func TestAccountIsInTheIndexBeforeItsCrossing(t *testing.T) {
	network := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	expected := noteExpected(network)
	stores := []*Store{openStore(t, network.URL()), openStore(t, network.URL())}
	var wait sync.WaitGroup
	for i := range 300 {
		wait.Go(func() {
			s, user := stores[i%2], fmt.Sprint("u", i%20)
			if i%3 == 0 {
				user = quota.MemberAccount("acme", user)
			}
			r := requestBy(notifyingTen, user)
			r.Plans.Scope = quota.ScopeOf(user)
			d, err := s.Reserve(ctx, r)
			if err == nil && d.Admitted {
				_, err = settleBy(stores[i%5%2], &d.Reservation, i%7 > 0)
			}
			if err != nil {
				t.Errorf("%q: %v", user, err)
			}
		})
	}
	wait.Wait()
	first, found := expected(), 0
	for i := range 20 {
		for _, account := range []string{fmt.Sprint("u", i), quota.MemberAccount("acme", fmt.Sprint("u", i)), quota.PoolAccount("acme")} {
			crossings, err := stores[0].CrossingsOf(ctx, account)
			if err != nil {
				t.Fatal(err)
			}
			found += len(crossings)
			for _, c := range crossings {
				if at, ok := first[account]; !ok || c.At.UnixMilli() < at {
					t.Errorf("%q has a crossing of %d; it was put into the index to expect one: %v, at %d", account, c.At.UnixMilli(), ok, at)
				}
			}
		}
	}
	if found == 0 {
		t.Error("nothing was crossed")
	}
}

// noteExpected has a proxy note when, by the clock of Redis in ms, each account was first put into the index because
// it might have a crossing soon. The function that it returns says what was noted.
func noteExpected(p *redistest.FaultProxy) func() map[string]int64 {
	var mu sync.Mutex
	first := map[string]int64{}
	p.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
		lines := strings.Fields(reply) // "*1 :1796515200000"
		if cmd.Script() != redistest.Claims || cmd[6] != "list" || lines[0] != "*1" {
			return redistest.Pass
		}
		at, _ := strconv.ParseInt(lines[1][1:], 10, 64)
		mu.Lock()
		defer mu.Unlock()
		for i := 7; i+1 < len(cmd); i += 2 {
			if _, ok := first[cmd[i]]; !ok && cmd[i+1] == "0" {
				first[cmd[i]] = at
			}
		}
		return redistest.Pass
	})
	return func() map[string]int64 {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(first)
	}
}

// allCommandsOf returns how often Redis has run each command while something was done.
func allCommandsOf(t *testing.T, server *redistest.Server, do func()) map[string]int {
	t.Helper()
	server.Do("CONFIG", "RESETSTAT")
	do()
	ran := map[string]int{}
	for _, m := range regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(server.Do("INFO", "commandstats").(string), -1) {
		ran[m[1]], _ = strconv.Atoi(m[2])
	}
	for _, other := range []string{"config|resetstat", "info", "hello", "pexpireat"} { // whether the last one is needed depends on milliseconds
		delete(ran, other)
	}
	return ran
}

// Redis does nothing more for a request that is not near a threshold, and the gateway sends it nothing more.
func TestThresholdsCostOthersNothing(t *testing.T) {
	limits := []quota.Limit{{Amount: 1000, Period: quota.Month}, {Amount: 1000, Period: quota.Month, Quantity: quota.Units}, {Amount: 1000, Period: quota.Month, Shared: true}}
	for _, user := range []string{"u", quota.MemberAccount("acme", "u")} {
		ran := func(p *quota.Plan) map[string]int {
			server := redistest.Start(t)
			s := openWith(t, Options{URL: server.URL(), Timeout: patient, scriptsOnly: true})
			request := func() {
				r := reserveBy(t, s, p, user)
				rest := *reserveBy(t, s, p, user)
				rest.Units, rest.Unused, rest.Rest, rest.RestCharged = 3, 2, 2, 1
				mustCommit(t, s, r)
				mustCommit(t, s, &rest)
				if _, err := s.CommitRest(ctx, &rest); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Release(ctx, reserveBy(t, s, p, user)); err != nil {
					t.Fatal(err)
				}
			}
			// The first requests send the scripts, and note when things end.
			request()
			return allCommandsOf(t, server, request)
		}
		want, got := ran(quotatest.NewPlan("p", limits...)), ran(notifying(limits...))
		if user == "u" { // without thresholds, plainsettle.lua counts in fewer calls
			want["hincrby"] += 4
			want["hmget"]++
		}
		if !maps.Equal(got, want) || want["evalsha"] != 7 {
			t.Errorf("%q: with thresholds Redis runs %v, without %v", user, got, want)
		}
	}
}

// A count that reaches a threshold is recorded even without memory, as it is counted; that it is known
// waits until there is memory again.
func TestCrossingWithoutMemory(t *testing.T) {
	t.Parallel()
	s := openStore(t, redistest.Start(t, "--maxmemory-policy", "noeviction").URL())
	useBy(t, s, notifyingTen, "u", 7)
	r := reserveBy(t, s, notifyingTen, "u")
	setMemory(t, s, "1")
	mustCommit(t, s, r)
	wantCrossings(t, s, "u", "80 8/10")
	setMemory(t, s, "0")
	testkit.Eventually(t, "it is known that the account waits", func() bool { return waiting(t, s) == 1 })
}

// A Redis user who may not use the commands of the index counts all the same, and crossings are recorded.
func TestIndexIsNotPermitted(t *testing.T) {
	server := redistest.Start(t)
	server.Needs(t, "6.2", "ACL for channels")
	server.Do("ACL", "SETUSER", "store", "on", ">secret", "~*", "&*", "+@all", "-zadd")
	s := openStore(t, (&url.URL{Scheme: "redis", User: url.UserPassword("store", "secret"), Host: server.Addr}).String())
	useBy(t, s, notifyingTen, "u", 8)
	wantCrossings(t, s, "u", "80 8/10")
	err := s.index.list(ctx, map[string]time.Time{"u": {}})
	if err == nil || !strings.Contains(err.Error(), "ACL SETUSER store +zadd") {
		t.Errorf("error %v", err)
	}
	server.Do("ACL", "SETUSER", "store", "+zadd")
	testkit.Eventually(t, "it is known that the account waits", func() bool { return waiting(t, s) == 1 })
}

// Redis may forget the scripts at any time.
func TestForgottenScriptsOfCrossings(t *testing.T) {
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	for i := range 3 {
		server.Do("SCRIPT", "FLUSH")
		user := fmt.Sprint("u", i)
		useBy(t, s, notifyingTen, user, 7)
		server.Do("SCRIPT", "FLUSH")
		useBy(t, s, notifyingTen, user, 1)
		server.Do("SCRIPT", "FLUSH")
		ids := wantCrossings(t, s, user, "80 8/10")
		var claim quota.CrossingClaim
		testkit.Eventually(t, "the account is claimed", func() bool { claim = claimAll(t, s)[user]; return claim.Token != 0 })
		server.Do("SCRIPT", "FLUSH")
		if err := s.EndCrossings(ctx, user, ids); err != nil {
			t.Error(err)
		}
		server.Do("SCRIPT", "FLUSH")
		endClaim(t, s, claim, 0)
		if n := waiting(t, s); n > 0 {
			t.Errorf("%d accounts are waiting", n)
		}
	}
}

// A request waits for the index no longer than for another answer of Redis, and those after it do not wait.
func TestIndexDoesNotAnswer(t *testing.T) {
	network := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	s := openStore(t, network.URL())
	useBy(t, s, notifyingTen, "u", 7)
	useBy(t, s, notifyingTen, "v", 7)
	cut := 0
	var mu sync.Mutex
	network.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() == redistest.Claims && !isRecorded(cmd) {
			mu.Lock()
			defer mu.Unlock()
			if cut++; cut == 1 {
				return redistest.Cut
			}
		}
		return redistest.Pass
	})
	reserveBy(t, s, notifyingTen, "u")
	reserveBy(t, s, notifyingTen, "v")
	testkit.Eventually(t, "both are put there in the background", func() bool { return slices.Equal(listed(t, s), []string{"u", "v"}) })
}

// Release 0.1.0 shares the hash: what it counts crosses nothing, and a crossing that is there stays.
func TestReleaseBesideCrossings(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	s := openAt(t, redistest.Start(t).URL(), clock)
	p := notifying(quota.Limit{Amount: 10, Period: quota.Month})
	useBy(t, s, p, "u", 8)
	if _, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), quota.Change{Action: quota.ActionReset}); err != nil {
		t.Fatal(err)
	}
	scripts := releaseScripts(t)
	month := s.calendar.WindowAt(quota.Month, clock.Now())
	release := func(name string, own ...any) {
		t.Helper()
		args := append([]any{clock.Offset().Milliseconds(), "u", "*", 0, int64(1) << 52, 2, 1, "used/" + month.ID, "held/" + month.ID}, own...)
		if err := commands(s).Eval(ctx, scripts["common"]+scripts[name], []string{key(s, "u")}, args...).Err(); err != nil {
			t.Fatal(name, err)
		}
	}
	for i := range 9 {
		id := fmt.Sprint("OLD", i)
		release("reserve", "lease/"+id, "done/"+id, "attempts/0/0", 60000, "analyze "+month.ID, 0, 0, 0, "free", 100)
		release("settle", 1, "lease/"+id, "done/"+id, 1, "analyze", 1, month.ID, month.RetainedUntil(s.keep).UnixMilli())
	}
	reserveBy(t, s, p, "u")
	clock.Advance(3 * time.Minute)
	release("read") // sweeps
	first := wantCrossings(t, s, "u", "80 8/10")
	useBy(t, s, p, "u", 1)
	if ids := wantCrossings(t, s, "u", "80 8/10", "100 10/10"); ids[0] != first[0] {
		t.Errorf("the crossing %s has become %s", first[0], ids[0])
	}
	clock.Advance(quota.CrossingLife + time.Minute)
	release("read")
	wantCrossings(t, s, "u")
	clock.Advance(500 * 24 * time.Hour)
	wantState(t, s, "u", 0, 0)
	if hash := userHash(t, s, "u"); hash["events"] != "" || hash["rearmed/"+month.ID] != "" {
		t.Errorf("the hash has %v", hash)
	}
}

// What cannot be read is an error that names the account, and keeps nobody from being counted.
func TestDamagedCrossings(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	for i, damaged := range []string{"", "x", "1796515200000", "1796515200000\n", "1796515200000\nmsg_1 2 3", "x\nmsg_1 1 2 3 x {}", "x\nmsg_1 1 2 3 4 {", "\n\n"} {
		user := fmt.Sprint("user-", i)
		useBy(t, s, notifyingTen, user, 1)
		if err := commands(s).HSet(ctx, key(s, user), "events", damaged).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CrossingsOf(ctx, user); i > 3 && (err == nil || !strings.Contains(err.Error(), user)) {
			t.Errorf("%q: error %v", damaged, err)
		}
		useBy(t, s, notifyingTen, user, 9)
		if err := s.EndClaim(ctx, quota.CrossingClaim{Account: user}, 0); err != nil {
			t.Errorf("%q: %v", damaged, err)
		}
	}
}
